package vmnetd

var lacpBits = []string{"activity", "short timeout", "aggregation", "synchronization", "collecting", "distributing", "defaulted", "expired"}

// LACPState decodes a LACP port state (IEEE 802.1AX 6.4.2.3); a timeout that is
// not short is long, and not said.
func LACPState(state int) []string {
	words := []string{}
	for bit, word := range lacpBits {
		if state&(1<<bit) != 0 {
			words = append(words, word)
		}
	}
	return words
}
