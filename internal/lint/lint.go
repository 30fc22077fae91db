// Package lint looks for mistakes in the hooks of a rendered chart. It contacts
// nothing and changes nothing: what it's given is what it judges.
//
// docs/lint.md explains every rule.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/report"
)

// Report is what was found in a chart.
type Report struct {
	SchemaVersion int    `json:"schemaVersion"`
	Chart         string `json:"chart"`
	Version       string `json:"version"`
	// Hooks is how many were looked at, without those that Helm leaves out.
	Hooks int `json:"hooks"`
	// Errors, Warnings and Notes are how many findings there are of each.
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Notes    int `json:"notes"`
	// Findings, worst first.
	Findings []Finding `json:"findings"`
}

// Finding is a mistake, or what may be one.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	// Events are those at which it matters; none if Helm leaves the hook out.
	Events []string `json:"events,omitempty"`
	// Chart is the path of the chart or subchart, as in shop/charts/orders.
	Chart string `json:"chart"`
	// Template is the path of the template, as Helm names it, and Hook kind and
	// name of the object, if it's about one.
	Template string `json:"template"`
	Hook     string `json:"hook,omitempty"`
	// Annotation and Value are what's wrong, if that's an annotation.
	Annotation string `json:"annotation,omitempty"`
	Value      string `json:"value,omitempty"`
	// File is where to look, Line the line there; 0 if it isn't known for sure.
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	// Message says what's wrong and, where that's short, what would be right.
	Message string `json:"message"`
}

// Check returns what's wrong with the hooks of a release that was rendered and
// never installed. templates are the texts that its templates rendered to, by
// path: the release lacks what Helm leaves out. sources say where to look.
//
// The error is that of a hook which isn't an object.
func Check(rel *release.Release, templates map[string]string, sources Sources) (*Report, error) {
	c := &check{namespace: rel.Namespace, sources: sources, seen: map[string]*Finding{}, notString: map[annotation]bool{}}
	var all []*hooks.Hook
	for _, h := range rel.Hooks {
		converted, err := helm3.Convert(h, rel.Namespace)
		if err != nil {
			return nil, fmt.Errorf("hook %s/%s (%s): %w", h.Kind, h.Name, h.Path, err)
		}
		all = append(all, converted)
		c.checkHookAnnotations(converted, h.Manifest)
		c.checkUnread(converted, h.Manifest)
		c.checkJobs(converted)
	}
	if err := c.checkDropped(templates); err != nil {
		return nil, err
	}
	c.checkLimits(rel)
	resources := ordinaryResources(rel.Manifest, rel.Namespace)
	for _, name := range report.Events() {
		event := hooks.Event(name)
		plan := c.checkPlan(rel, event, all)
		tiers := tiersOf(event, all)
		c.checkOrder(event, plan, tiers)
		c.checkSameObjects(event, tiers)
		c.checkUses(event, tiers, resources)
		c.checkWeights(event, tiers)
		c.checkNames(event, tiers)
	}
	return c.report(rel), nil
}

// check collects findings.
type check struct {
	namespace string
	sources   Sources
	limits    []hooks.Limit // of the charts
	findings  []*Finding
	seen      map[string]*Finding
	// notString are the annotations of which it's been said already that their values are no
	// strings.
	notString map[annotation]bool
}

// annotation is one of a hook's.
type annotation struct {
	hook *hooks.Hook
	name string
}

// about names what a finding is about.
type about struct {
	events     []hooks.Event // at which it matters; none if Helm runs it at none
	template   string
	kind, name string // of the hook's object; empty if there's none
	// annotation is that with the mistake; empty if there's none.
	annotation, value string
}

// aboutHook is about a hook at all its events.
func aboutHook(h *hooks.Hook) about {
	return about{events: h.Events, template: h.Path, kind: h.Kind, name: h.Name}
}

func (a about) at(event hooks.Event) about {
	a.events = []hooks.Event{event}
	return a
}

func (a about) annotated(annotation, value string) about {
	a.annotation, a.value = annotation, value
	return a
}

// add adds a finding. One that has been made for another event is made once.
func (c *check) add(rule *Rule, a about, format string, args ...any) {
	f := &Finding{
		Rule:       rule.ID,
		Severity:   rule.Severity,
		Chart:      chartOf(a.template),
		Template:   a.template,
		Annotation: a.annotation,
		Value:      a.value,
		Message:    fmt.Sprintf(format, args...),
	}
	if a.kind != "" || a.name != "" {
		f.Hook = a.kind + "/" + a.name
	}
	key := strings.Join([]string{f.Rule, f.Template, f.Hook, f.Annotation, f.Message}, "\x00")
	if made, ok := c.seen[key]; ok {
		f = made
	} else {
		f.File, f.Line = c.sources.find(a)
		c.seen[key] = f
		c.findings = append(c.findings, f)
	}
	for _, event := range a.events {
		if !slices.Contains(f.Events, string(event)) {
			f.Events = append(f.Events, string(event))
		}
	}
}

func (c *check) report(rel *release.Release) *Report {
	slices.SortStableFunc(c.findings, func(a, b *Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity)),
			strings.Compare(a.Template, b.Template),
			cmp.Compare(a.Line, b.Line),
			strings.Compare(a.Hook, b.Hook),
			strings.Compare(a.Rule, b.Rule),
			strings.Compare(a.Annotation, b.Annotation),
			strings.Compare(a.Message, b.Message),
		)
	})
	r := &Report{SchemaVersion: 1, Hooks: len(rel.Hooks), Findings: []Finding{}}
	r.Chart, r.Version = rel.Chart.Metadata.Name, rel.Chart.Metadata.Version
	for _, f := range c.findings {
		r.Findings = append(r.Findings, *f)
		switch f.Severity {
		case Error:
			r.Errors++
		case Warning:
			r.Warnings++
		case Note:
			r.Notes++
		}
	}
	return r
}

// chartOf returns the path of the chart that a template belongs to.
func chartOf(template string) string {
	chart, _, found := strings.Cut(template, "/templates/")
	if !found {
		chart = strings.TrimSuffix(template, "/Chart.yaml")
	}
	return chart
}

// tier is the hooks of an event that have one weight, in Helm's order.
type tier struct {
	weight int
	hooks  []*hooks.Hook
	// again, of a tier of Jobs and Pods, says that it, or one between it and the one
	// before, creates an object that a hook of a lower weight has created.
	again bool
}

// tiersOf returns the hooks of an event by weight. Unlike in a [hooks.Plan], a hook
// that names the event twice is there once, and bad annotations don't matter.
func tiersOf(event hooks.Event, all []*hooks.Hook) []tier {
	var tiers []tier
	selected := slices.DeleteFunc(slices.Clone(all), func(h *hooks.Hook) bool { return !slices.Contains(h.Events, event) })
	slices.SortStableFunc(selected, func(a, b *hooks.Hook) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), strings.Compare(a.Name, b.Name))
	})
	for _, h := range selected {
		if len(tiers) == 0 || tiers[len(tiers)-1].weight != h.Weight {
			tiers = append(tiers, tier{weight: h.Weight})
		}
		last := &tiers[len(tiers)-1]
		last.hooks = append(last.hooks, h)
	}
	return tiers
}
