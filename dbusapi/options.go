package dbusapi

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

const (
	longestOption = 1024 // bytes; none that makes sense is longer than a path
	longestList   = 256  // strings in one; a NIC has a few addresses, a host a few uplinks
)

// optionFields are the fields of *T by their JSON names; skip is no option.
func optionFields(v reflect.Value, skip string) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name != skip {
			fields[name] = v.Field(i)
		}
	}
	return fields
}

// decodeRequest reads the options of Attach, Explain and OpenTap: the JSON
// names of vmnetd.Request. Anything it does not know is vmnetd.ErrInvalid.
func decodeRequest(vm string, options map[string]dbus.Variant) (vmnetd.Request, error) {
	req := vmnetd.Request{VM: vm}
	if err := vmnetd.CheckVMName(vm); err != nil {
		return req, err
	}
	if err := decodeInto(optionFields(reflect.ValueOf(&req).Elem(), "vm"), options); err != nil {
		return req, err
	}
	return req, checkRequest(&req)
}

// checkRequest refuses names that could escape from where they are used, and
// writes mode and MAC the one way.
func checkRequest(req *vmnetd.Request) error {
	if req.ID != "" {
		if err := vmnetd.CheckID(req.ID); err != nil {
			return err
		}
	}
	if req.Mode != "" {
		mode, err := vmnetd.ParseMode(string(req.Mode))
		if err != nil {
			return err
		}
		req.Mode = mode
	}
	if req.MAC != "" {
		mac, err := vmnetd.ParseMAC(req.MAC)
		if err != nil {
			return err
		}
		req.MAC = mac.String()
	}
	if err := checkAddresses(req); err != nil {
		return err
	}
	return checkHandover(req.Handover)
}

// checkAddresses writes addresses and routes the one way, and refuses a request
// that is for a VM and for a network namespace at once.
func checkAddresses(req *vmnetd.Request) (err error) {
	if req.IPs, err = vmnetd.CheckIPs(req.IPs); err != nil {
		return err
	}
	if req.Routes, err = vmnetd.CheckRoutes(req.Routes); err != nil {
		return err
	}
	return vmnetd.CheckNetns(*req)
}

// checkHandover refuses a way that nothing is handed over by: a mistyped "fd"
// must not become the other way in silence.
func checkHandover(how string) error {
	switch how {
	case "", "name", "fd":
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrInvalid, "handover %q is neither name nor fd", clip(how)).
		WithNext("leave it out: libvirt opens the device by its name")
}

// encodeRequest is decodeRequest backwards: what is asked for and nothing else.
func encodeRequest(req vmnetd.Request) map[string]dbus.Variant {
	options := map[string]dbus.Variant{}
	for name, field := range optionFields(reflect.ValueOf(&req).Elem(), "vm") {
		if !field.IsZero() {
			options[name] = variant(field)
		}
	}
	return options
}

// selection is agent.Selector as options.
type selection struct {
	ID     string `json:"id"`
	MAC    string `json:"mac"`
	All    bool   `json:"all"`
	Live   bool   `json:"live"`
	Config bool   `json:"config"`
}

// scopeFields are the options of a detach that names its NIC already.
func scopeFields(sel *selection) map[string]reflect.Value {
	fields := optionFields(reflect.ValueOf(sel).Elem(), "")
	maps.DeleteFunc(fields, func(name string, _ reflect.Value) bool { return name != "live" && name != "config" })
	return fields
}

func decodeSelector(vm string, options map[string]dbus.Variant) (agent.Selector, error) {
	var sel selection
	if err := vmnetd.CheckVMName(vm); err != nil {
		return agent.Selector{}, err
	}
	if err := decodeInto(optionFields(reflect.ValueOf(&sel).Elem(), ""), options); err != nil {
		return agent.Selector{}, err
	}
	req := vmnetd.Request{ID: sel.ID, MAC: sel.MAC}
	if err := checkRequest(&req); err != nil {
		return agent.Selector{}, err
	}
	if sel.ID != "" && sel.MAC != "" || sel.All && (sel.ID != "" || sel.MAC != "") {
		return agent.Selector{}, vmnetd.Errorf(vmnetd.ErrInvalid, "id, mac and all exclude each other")
	}
	sel.ID, sel.MAC = req.ID, req.MAC
	return agent.Selector(sel), nil
}

func encodeSelector(sel agent.Selector) map[string]dbus.Variant {
	options := map[string]dbus.Variant{}
	for name, field := range optionFields(reflect.ValueOf(selection(sel)), "") {
		if !field.IsZero() {
			options[name] = variant(field)
		}
	}
	return options
}

func decodeInto(fields map[string]reflect.Value, options map[string]dbus.Variant) error {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		field, known := fields[name]
		if !known {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "unknown option %q", clip(name)).
				WithNext("options are " + strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if err := setOption(field, options[name].Value()); err != nil {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "option %s: %w", name, err)
		}
	}
	return nil
}

func setOption(field reflect.Value, value any) error {
	switch field.Kind() {
	case reflect.String:
		s, ok := value.(string)
		if !ok {
			return fmt.Errorf("must be a string")
		}
		if err := checkText(s); err != nil {
			return err
		}
		field.SetString(s)
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			return fmt.Errorf("must be a boolean")
		}
		field.SetBool(b)
	case reflect.Int:
		n, ok := count(value)
		if !ok {
			return fmt.Errorf("must be a number from 0 to %d", math.MaxInt32)
		}
		field.SetInt(n)
	case reflect.Slice:
		list, ok := value.([]string)
		if !ok {
			return fmt.Errorf("must be a list of strings")
		}
		if err := checkTexts(list); err != nil {
			return err
		}
		field.Set(reflect.ValueOf(list))
	default:
		return fmt.Errorf("cannot be given")
	}
	return nil
}

func checkTexts(list []string) error {
	if len(list) > longestList {
		return fmt.Errorf("has %d entries, %d at most can be", len(list), longestList)
	}
	for _, s := range list {
		if err := checkText(s); err != nil {
			return err
		}
	}
	return nil
}

// checkText refuses what no name, path or address contains and a log or terminal
// would act on.
func checkText(s string) error {
	if len(s) > longestOption {
		return fmt.Errorf("is longer than %d bytes", longestOption)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("contains a control character")
	}
	return nil
}

// count takes any of D-Bus's integers, because callers write what their
// language makes of 4.
func count(value any) (int64, bool) {
	v := reflect.ValueOf(value)
	switch {
	case v.Kind() == reflect.Invalid:
		return 0, false
	case v.CanInt():
		return v.Int(), v.Int() >= 0 && v.Int() <= math.MaxInt32
	case v.CanUint():
		return int64(v.Uint()), v.Uint() <= math.MaxInt32
	}
	return 0, false
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
