package lint

// Severity says how bad a finding is. The values are SARIF's levels.
type Severity string

// The severities, worst first.
const (
	// Error: an operation fails, or does something else than the chart says.
	Error Severity = "error"
	// Warning: an operation fails or takes longer under circumstances.
	Warning Severity = "warning"
	// Note: something to think about; the chart may be right.
	Note Severity = "note"
)

var severities = []Severity{Error, Warning, Note}

// Rule is a thing that's looked for. Its ID is part of what scripts and
// code-scanning services keep, and never changes its meaning.
type Rule struct {
	ID       string
	Severity Severity
	// Summary is a sentence that holds for every finding of the rule.
	Summary string
}

// HelpURI is where the documentation explains the rule.
func (r *Rule) HelpURI() string { return homepage + "/blob/main/docs/lint.md#" + r.ID }

const homepage = "https://github.com/helm-parallel-hooks/helm-parallel-hooks"

var (
	invalidAnnotation   = &Rule{"invalid-annotation", Error, "An annotation of the plugin can't be followed: where hooks run in parallel, it refuses the chart, or doesn't read what is in a List."}
	annotationNotString = &Rule{"annotation-not-string", Error, "An annotation's value is no string, which Kubernetes refuses."}
	invalidWeight       = &Rule{"invalid-weight", Error, "A hook's weight is no whole number, for which Helm takes 0."}
	unknownEvent        = &Rule{"unknown-event", Error, "A hook names an event that Helm doesn't know, so that Helm leaves the object out."}
	unknownDeletePolicy = &Rule{"unknown-delete-policy", Error, "A hook names a delete policy that Helm doesn't know."}
	unknownLogPolicy    = &Rule{"unknown-log-policy", Warning, "A hook names a log policy that Helm doesn't know."}
	usedBeforeCreated   = &Rule{"used-before-created", Error, "A Job or Pod uses an object that is a hook of a higher weight."}
	nameOrder           = &Rule{"name-order", Warning, "A Job or Pod uses a hook of its own weight, or a hook is after one by annotation, that plain Helm creates later, by name."}
	numberedNames       = &Rule{"numbered-names", Warning, "Jobs or Pods of one weight have names with numbers that tell an order, and run at once."}
	usedBeforeInstall   = &Rule{"used-before-install", Warning, "A pre-install hook uses an object that the chart creates only after it."}
	usedAfterDelete     = &Rule{"used-after-delete", Warning, "A post-delete hook uses an object that has been deleted before it."}
	sameObject          = &Rule{"same-object", Warning, "Two hooks of one event are the same object, so that they don't run at once, or the later one fails."}
	replacedObject      = &Rule{"replaced-object", Note, "A hook replaces the object of another one, of a lower weight."}
	noBackoffLimit      = &Rule{"no-backoff-limit", Warning, "A Job has no backoffLimit, so that Kubernetes tries it up to seven times."}
	noDeadline          = &Rule{"no-deadline", Note, "A Job has no activeDeadlineSeconds, so that it may run on after the operation has given up."}
	separateWeights     = &Rule{"separate-weights", Note, "Hooks that may have nothing to do with one another have different weights, and never run at once."}
)

// Rules are all rules, in the order in which the documentation explains them.
var Rules = []*Rule{
	invalidAnnotation,
	annotationNotString,
	invalidWeight,
	unknownEvent,
	unknownDeletePolicy,
	unknownLogPolicy,
	usedBeforeCreated,
	nameOrder,
	numberedNames,
	usedBeforeInstall,
	usedAfterDelete,
	sameObject,
	replacedObject,
	noBackoffLimit,
	noDeadline,
	separateWeights,
}
