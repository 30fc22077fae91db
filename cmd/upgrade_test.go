package cmd

import (
	"reflect"
	"testing"

	"helm.sh/helm/v3/pkg/action"
)

// TestUpgradeTakesAllFlags: whatever a flag sets on the install that an upgrade may
// turn out to be, the upgrade has it too.
func TestUpgradeTakesAllFlags(t *testing.T) {
	isolate(t)
	from := new(action.Install)
	u := &upgrade{install: install{program: newProgram(discard(), ""), client: from}, upgrading: new(action.Upgrade)}
	to := reflect.ValueOf(u.upgrading).Elem()
	fields := reflect.ValueOf(from).Elem()
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		shared := to.FieldByName(name)
		if field := fields.Field(i); shared.IsValid() && shared.CanSet() && shared.Type() == field.Type() {
			switch field.Kind() {
			case reflect.Bool:
				field.SetBool(true)
			case reflect.String:
				field.SetString("set")
			case reflect.Int64:
				field.SetInt(1)
			case reflect.Map:
				field.Set(reflect.ValueOf(map[string]string{"set": "set"}))
			}
		}
	}
	from.Version = "set"
	u.takeFlags()

	// What no flag of the command sets.
	others := map[string]bool{"DryRun": true, "Lock": true, "Namespace": true}
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		shared := to.FieldByName(name)
		if !shared.IsValid() || !shared.CanSet() || shared.Type() != fields.Field(i).Type() || others[name] {
			continue
		}
		if !reflect.DeepEqual(shared.Interface(), fields.Field(i).Interface()) {
			t.Errorf("%s: the upgrade has %v, the flags say %v", name, shared, fields.Field(i))
		}
	}
	if u.upgrading.PostRenderer != nil {
		t.Error("a post-renderer came from nowhere")
	}
}
