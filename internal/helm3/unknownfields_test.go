package helm3

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/release"
)

// FuzzUnknownFields: a record that was read and is written with another status and other phases keeps what Helm 3 has
// no name for, and to Helm 3 it is what it wrote.
func FuzzUnknownFields(f *testing.F) {
	for _, seed := range []string{
		`{}`,
		`{"name":"a","version":1,"namespace":"n","info":{"status":"deployed","description":"","deleted":""},"hooks":null}`,
		`{"name":"a","apply_method":"ssa","info":{"status":"deployed","rollback_revision":2},
			"chart":{"schemamodtime":"2026-01-02T03:04:05Z","metadata":{"name":"c","version":"1.0.0"},"templates":[
				{"name":"a","data":"YQ==","modtime":"2026-01-02T03:04:05Z"},{"name":"b","data":"Yg=="}]},
			"hooks":[{"name":"h","last_run":{"phase":"Unknown"},"sequence":12345678901234567890},{"name":"i","last_run":{"phase":""}}]}`,
		`{"NAME":"a","Info":{"Status":"deployed","Future":1}}`,
		`{"config":{"a":{"b":[1,{"c":1.50}]}},"future":[{"a":[null,1e3]},"<>&\u2028"]}`,
		`{"info":{"status":"failed","first_deployed":"2026-01-02T03:04:05Z"},"hooks":[null,{"future":true}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "?")
		all, err := decodeRecord(base64.StdEncoding.EncodeToString([]byte(text)))
		if err != nil {
			return
		}
		rel := new(release.Release)
		if json.Unmarshal([]byte(text), rel) != nil {
			return
		}
		if rel.Info == nil {
			rel.Info = new(release.Info)
		}
		rel.Info.Status, rel.Info.Description = release.StatusSuperseded, "changed"
		for _, h := range rel.Hooks {
			if h != nil {
				h.LastRun.Phase = release.HookPhaseSucceeded
			}
		}
		written, err := json.Marshal(rel)
		if err != nil {
			return
		}
		unknown := unknownIn(all)
		record, err := withFields(base64.StdEncoding.EncodeToString(written), unknown)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := decodeRecord(record)
		if err != nil {
			t.Fatalf("what was written can't be read: %v", err)
		}
		// To Helm 3 nothing has changed.
		read := new(release.Release)
		keptText, _ := json.Marshal(kept)
		if err := json.Unmarshal(keptText, read); err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(read); !bytes.Equal(again, written) {
			t.Errorf("Helm 3 reads %s, want what it wrote, %s", again, written)
		}
		// And nothing that it doesn't know is gone.
		if still := unknownIn(kept); !reflect.DeepEqual(still, unknown) {
			t.Errorf("the record has the unknown fields %v, want %v", still, unknown)
		}
	})
}

func TestUnknownFields(t *testing.T) {
	all, err := decodeRecord(base64.StdEncoding.EncodeToString([]byte(`{"name": "a", "apply_method": "ssa",
		"info": {"status": "deployed", "rollback_revision": 2},
		"chart": {"templates": [{"name": "a", "data": "YQ=="}, {"name": "b", "data": "Yg==", "modtime": "2026-01-02T03:04:05Z"}]}}`)))
	if err != nil {
		t.Fatal(err)
	}
	written := base64.StdEncoding.EncodeToString([]byte(`{"name":"a","info":{"status":"superseded"},
		"chart":{"templates":[{"name":"a","data":"YQ=="},{"name":"b","data":"Yg=="}]}}`))
	record, err := withFields(written, unknownIn(all))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := decodeRecord(record)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(kept)
	want := `{"apply_method":"ssa","chart":{"templates":[{"data":"YQ==","name":"a"},{"data":"Yg==","modtime":"2026-01-02T03:04:05Z","name":"b"}]},` +
		`"info":{"rollback_revision":2,"status":"superseded"},"name":"a"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
