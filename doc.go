// Package vmnetd holds the nouns of a VM host networking agent: VM, Network,
// Attachment, Phase, the one table of modes and the errors everybody speaks.
// It imports nothing of the project; every other package may import it.
package vmnetd
