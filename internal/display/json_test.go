package display

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		j := NewJSON(&out, Options{Leave: "kill 7"})
		migrate, seed := hook("Job", "migrate"), hook("Job", "seed")
		migrate.Path = "shop/templates/migrate.yaml"
		plan, err := hooks.NewPlan("pre-install", []*hooks.Hook{migrate, seed}, hooks.PlanOptions{Parallelism: 2})
		if err != nil {
			t.Fatal(err)
		}
		failed := hooks.Result{
			Hook: migrate, Phase: hooks.Failed, StartedAt: time.Now(), CompletedAt: time.Now().Add(1500 * time.Millisecond),
			Err: &hooks.HookError{Op: hooks.OpWait, Err: errors.New("timed out"), Findings: []hooks.Finding{{Pod: "migrate-x", Reason: "Unschedulable", Message: "0/1\nnodes"}}},
		}
		j.Observe(hooks.EventStarted{Plan: plan})
		j.Observe(hooks.TierStarted{Event: "pre-install", Weight: 0})
		j.Observe(hooks.HookStarted{Event: "pre-install", Hook: migrate, At: time.Now()})
		j.Observe(hooks.HookProgressed{Event: "pre-install", Hook: migrate, Activity: "Running"})
		j.Log(hooks.LogSource{Hook: migrate, Pod: "migrate-x", Container: "main", Attempt: 1}, []byte("one\n\n\x1b[2J\xff"))
		j.Observe(hooks.HookWarned{Event: "pre-install", Hook: migrate, Message: "vanished"})
		j.Observe(hooks.Stopping{Event: "pre-install", Running: []*hooks.Hook{migrate}, Queued: 1})
		j.Observe(hooks.HookEnded{Event: "pre-install", Result: failed})
		j.Observe(hooks.TierEnded{Event: "pre-install", Weight: 0})
		j.Observe(hooks.EventEnded{Event: "pre-install", Results: []hooks.Result{failed, {Hook: seed}}, Err: errors.New("failed")})
		j.Close()
		j.Observe(hooks.HookWarned{Event: "pre-install", Hook: migrate, Message: "too late"})
		const hookOf = `"hook":{"kind":"Job","name":"migrate","weight":-5,"path":"shop/templates/migrate.yaml"}`
		const want = `"type":"event-started","event":"pre-install","parallelism":2,"hooks":2}
"type":"tier-started","event":"pre-install","tier":1,"weight":0}
"type":"hook-started","event":"pre-install",` + hookOf + `,"started":"2000-01-01T00:00:00Z"}
"type":"hook-progressed","event":"pre-install",` + hookOf + `,"activity":"Running"}
"type":"hook-logged",` + hookOf + `,"pod":"migrate-x","container":"main","attempt":1,"line":"one"}
"type":"hook-logged",` + hookOf + `,"pod":"migrate-x","container":"main","attempt":1,"line":""}
"type":"hook-logged",` + hookOf + `,"pod":"migrate-x","container":"main","attempt":1,"line":"\u001b[2J\ufffd"}
"type":"hook-warned","event":"pre-install",` + hookOf + `,"message":"vanished"}
"type":"stopping","event":"pre-install","message":"kill 7","running":[{"kind":"Job","name":"migrate","weight":-5,"path":"shop/templates/migrate.yaml"}],"queued":1}
"type":"hook-ended","event":"pre-install",` + hookOf + `,"phase":"Failed","started":"2000-01-01T00:00:00Z","completed":"2000-01-01T00:00:01.5Z","seconds":1.5,"error":"timed out","causes":["pod migrate-x: Unschedulable: 0/1 nodes"]}
"type":"tier-ended","event":"pre-install","tier":1,"weight":0}
"type":"event-ended","event":"pre-install","seconds":0,"error":"failed","succeeded":0,"failed":1,"notStarted":1}
`
		got := out.String()
		for line := range strings.Lines(got) {
			if !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
		}
		if got = strings.ReplaceAll(got, `{"schemaVersion":1,"time":"2000-01-01T00:00:00Z",`, ""); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}
