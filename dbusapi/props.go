package dbusapi

import (
	"reflect"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

type properties = map[string]dbus.Variant

// attachmentProps leaves `changed` out: it is said of a call, not of a NIC.
func attachmentProps(a vmnetd.Attachment) properties {
	p := structProps(reflect.ValueOf(a))
	delete(p, "changed")
	return p
}

// structProps makes a property of each field, by its JSON name; what a field
// points to is no property.
func structProps(v reflect.Value) properties {
	p := make(properties, v.NumField())
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Pointer {
			continue
		}
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		p[name] = variant(v.Field(i))
	}
	return p
}

// variant writes a field's value: int is i, whatever its size here, and a time
// is t, µs since 1970, 0 for none.
func variant(v reflect.Value) dbus.Variant {
	if at, ok := v.Interface().(time.Time); ok {
		return dbus.MakeVariant(uint64(max(0, at.UnixMicro())))
	}
	switch v.Kind() {
	case reflect.String:
		return dbus.MakeVariant(clean(v.String()))
	case reflect.Int:
		return dbus.MakeVariant(int32(v.Int()))
	case reflect.Slice:
		list := make([]string, v.Len())
		for i := range list {
			list[i] = clean(v.Index(i).String())
		}
		return dbus.MakeVariant(list)
	}
	return dbus.MakeVariant(v.Interface())
}

// difference is what of now is new or other than before.
func difference(before, now properties) properties {
	changed := properties{}
	for name, value := range now {
		if old, had := before[name]; !had || !reflect.DeepEqual(old.Value(), value.Value()) {
			changed[name] = value
		}
	}
	return changed
}
