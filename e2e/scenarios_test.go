package e2e

import (
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/release"
)

// What the scenarios have in common. All of them are about the release "app" or several, and most about the chart
// "release", whose values.yaml explains what they set. Both commands leave out the schema of the API unless a scenario
// is about it: to fetch it is half of what they cost.
const (
	install = "install app charts/release --disable-openapi-validation"
	upgrade = "upgrade app charts/release --disable-openapi-validation"
)

// installed is a release without hooks.
var installed = helm(install)

// The differences that several scenarios show; docs/differences.md explains them.
var (
	wrongArguments = difference{"wrong-arguments", false, []rewriting{
		{errs, `"helm (\w+)" requires`, `"` + pluginName() + ` $1" requires`},
		{errs, `Usage:  helm `, `Usage:  ` + pluginName() + ` `},
	}}
	failedDelete = difference{"failed-delete-hook", false, hookNotRunning}

	// In a record that Helm has left behind.
	hookNotRunning = []rewriting{
		{records, `"completed_at": "",\n    "phase": "Running"`, `"completed_at": "TIME",` + "\n" + `    "phase": "Failed"`},
		{statuses, `=Running"`, `=Failed"`},
	}
)

// failedRollback is that of a rollback to revision 1, with the description that the plugin gives it. The second one is
// for runs with more than one hook at a time.
func failedRollback(description, parallel string) difference {
	return difference{"failed-rollback-hook", false, append([]rewriting{
		{records, `"description": "Rollback to 1",\n  "status": "pending-rollback"`, fmt.Sprintf(`"description": %q,`+"\n"+`  "status": "failed"`, description)},
		{records, `status:pending-rollback`, `status:failed`},
		{statuses, `pending-rollback: Rollback to 1`, "failed: " + parallel},
	}, hookNotRunning...)}
}

// tookTooLong is that of a hook at which Helm's timeout struck.
func tookTooLong(hook, timeout string) difference {
	return difference{"error", true, []rewriting{{
		statuses, `timed out waiting for the condition`,
		hook + ": not done after " + timeout + " (--timeout), and not ended by that: timed out waiting for the condition",
	}}}
}

// scenarios are what TestDifferences does. Hooks are Pods where nothing else is said, since Helm looks only every two
// seconds whether an object that it has deleted is gone.
var scenarios = slices.Concat(failingHooks(), installs, upgrades, rollbacks, uninstalls, tests)

// failingHooks has each hook of each event fail.
func failingHooks() (all []scenario) {
	for _, position := range []string{"first", "middle", "last"} {
		for _, event := range []string{
			"pre-install", "post-install", "pre-upgrade", "post-upgrade", "pre-rollback", "post-rollback", "pre-delete", "post-delete", "test",
		} {
			sc := scenario{name: fmt.Sprintf("%s: the %s hook fails", event, position)}
			hooks := fmt.Sprintf(" --set events={%s},failing={%s-%s}", event, event, position)
			failure := fmt.Sprintf("1 error occurred:\n\t* pod %s-%s failed\n\n", event, position)
			switch event {
			case "pre-install", "post-install":
				sc.when = []string{"! " + install + hooks}
			case "pre-upgrade", "post-upgrade":
				sc.given = []step{installed}
				sc.when = []string{"! " + upgrade + hooks}
			case "pre-rollback", "post-rollback":
				sc.given = []step{helm(install + hooks), helm(upgrade + " --reset-values")}
				sc.when = []string{"! rollback app"}
				description := `Rollback "app" failed: ` + failure
				if event == "post-rollback" {
					description = `Release "app" failed: ` + failure
				}
				sc.differs = []difference{failedRollback(description, description)}
			case "pre-delete", "post-delete":
				sc.given = []step{helm(install + hooks)}
				sc.when = []string{"! uninstall app"}
				if event == "pre-delete" {
					sc.differs = []difference{failedDelete}
				}
			case "test":
				sc.given = []step{helm(install + hooks)}
				sc.when = []string{"! test app"}
			}
			all = append(all, sc)
		}
	}
	return all
}

// mixed is three weights of Jobs, a ConfigMap, and Pods.
const mixed = `tiers=[{"weight":-1,"jobs":2,"duration":"0s"},{"weight":2,"jobs":1,"kind":"configmap"},{"weight":2,"jobs":2,"kind":"pod","duration":"1s"}]`

// widgets is a chart with a CustomResourceDefinition in crds/ and a custom resource.
const widgets = `
-- widgets/Chart.yaml --
apiVersion: v2
name: widgets
version: 1.0.0
-- widgets/crds/widget.yaml --
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.NAMESPACE.example.com
spec:
  group: NAMESPACE.example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
-- widgets/values.yaml --
widget: true
-- widgets/templates/widget.yaml --
{{- if .Values.widget }}
apiVersion: NAMESPACE.example.com/v1
kind: Widget
metadata:
  name: widget
spec:
  size: 3
{{- end }}
-- widgets/templates/hook.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: hook
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
`

// notes is a chart that leaves the notes to its subchart: Helm joins several in a random order.
const notes = `
-- notes/Chart.yaml --
apiVersion: v2
name: notes
version: 1.0.0
-- notes/charts/part/Chart.yaml --
apiVersion: v2
name: part
version: 1.0.0
-- notes/charts/part/templates/NOTES.txt --
Notes of the part.
`

var installs = []scenario{
	{
		name: "install",
		when: []string{"install app charts/release --set events={pre-install,post-install},extra={more},secret=true,part.enabled=true"},
		says: "Revision 1 of app says one.",
	},
	{
		name: "install: hooks of all kinds",
		when: []string{"install app charts/tiers --set-json " + mixed},
	},
	{
		name: "install: the same hooks before and after",
		when: []string{install + " --set events={post-install+pre-install},kind=configmap"},
	},
	{
		name: "install: the same Jobs before and after",
		when: []string{`install app charts/tiers --set-json tiers=[{"jobs":2,"duration":"0s","event":["post-install","pre-install"]}]`},
	},
	{
		name: "install: hooks are deleted after success",
		when: []string{"install app charts/tiers --set deletePolicy={hook-succeeded} --set-json " + mixed},
	},
	{
		name:    "install: hooks are deleted after a failure",
		when:    []string{"! install app charts/tiers --set failing={pod-2-00},deletePolicy={hook-succeeded,hook-failed} --set-json " + mixed},
		differs: []difference{{"failed-hook", true, []rewriting{{statuses, `"pod-2-01="`, `"pod-2-01=Succeeded"`}, {field: work}}}},
	},
	{
		name: "install: a failed hook is kept, the others are deleted",
		when: []string{"! " + install + " --set kind=job,events={pre-install},failing={pre-install-middle},deletePolicy={hook-succeeded}"},
	},
	{
		name: "install: a failed hook is deleted, the others are kept",
		when: []string{"! " + install + " --set kind=job,events={pre-install},failing={pre-install-middle},deletePolicy={hook-failed}"},
	},
	{
		name: "install: a failing Job",
		when: []string{"! install app charts/tiers --set failing={job-0-01} --set-json " + mixed},
	},
	{
		name: "install: one hook among several of its weight fails",
		when: []string{"! " + install + " --set sameWeight=true,duration=1s,events={pre-install},failing={pre-install-middle}"},
	},
	{
		name: "install: the logs of hooks",
		when: []string{install + " --set events={pre-install,post-install},logPolicy={hook-succeeded}"},
	},
	{
		name: "install: the logs of failing hooks",
		when: []string{"! " + install + " --set events={pre-install},failing={pre-install-last},logPolicy={hook-failed}"},
	},
	{
		name: "install: the logs of failing Jobs that are deleted",
		when: []string{"! " + install + " --set kind=job,events={pre-install},failing={pre-install-middle},logPolicy={hook-failed,hook-succeeded},deletePolicy={hook-failed,hook-succeeded}"},
	},
	{
		name:    "install: a hook takes too long",
		when:    []string{"! " + install + " --timeout 5s --set events={pre-install},slow={pre-install-middle}"},
		differs: []difference{tookTooLong("pod pre-install-middle", "5s")},
	},
	{
		name:    "install: the server refuses a hook",
		when:    []string{"! " + install + " --set kind=configmap,events={pre-install},failing={pre-install-middle},deletePolicy={hook-succeeded,hook-failed}"},
		differs: []difference{{"refused-hook", true, []rewriting{{field: work}, {field: objects}}}},
	},
	{
		name: "install: the server refuses a Job",
		when: []string{"! install app charts/edges --set rejectedHook=true"},
	},
	{
		name: "install: the hook of an unknown kind",
		when: []string{"! install app charts/edges --set unknownKind=true"},
	},
	{
		name: "install: a hook with an unknown field",
		when: []string{"install app charts/edges --set unknownField=true"},
	},
	{
		name: "install: two hooks are one object",
		when: []string{"install app charts/edges --set sameObject=true,duration=0s"},
	},
	{
		name:  "install: a hook in the way, and none that deletes it",
		given: []step{somebodyCreates("pre-install-middle")},
		when:  []string{"! " + install + " --set kind=configmap,events={pre-install},deletePolicy={hook-failed}"},
		says:  `"pre-install-middle" already exists`,
	},
	{
		name:  "install: a hook in the way is replaced",
		given: []step{somebodyCreates("pre-install-middle")},
		when:  []string{install + " --set kind=configmap,events={pre-install}"},
	},
	{
		name: "install: annotations of the plugin's own",
		when: []string{`install app charts/tiers --set-json tiers=[{"jobs":1,"kind":"pod","duration":"0s"}] --set-json annotations={"pod-0-00":{"parallel-hooks/slots":"all"}}`},
	},
	{
		name: "install: hooks alone",
		when: []string{install + " --set manifest=false,events={pre-install,post-install}"},
	},
	{
		name: "install: hooks alone, and one fails",
		when: []string{"! " + install + " --set manifest=false,events={pre-install,post-install},failing={post-install-first}"},
	},
	{
		name: "install: nothing at all",
		when: []string{install + " --set manifest=false"},
	},
	{
		name: "install: --no-hooks",
		when: []string{install + " --no-hooks --set events={pre-install,post-install}"},
	},
	{
		name: "install: --atomic",
		when: []string{install + " --atomic --set events={pre-install,post-install}"},
	},
	{
		name: "install: --atomic, and a pre-install hook fails",
		when: []string{"! " + install + " --atomic --set events={pre-install,pre-delete,post-delete},failing={pre-install-middle}"},
		says: "has been uninstalled due to atomic being set",
	},
	{
		name: "install: --atomic, and a post-install hook fails",
		when: []string{"! " + install + " --atomic --set events={post-install,pre-delete,post-delete},failing={post-install-middle}"},
		says: "has been uninstalled due to atomic being set",
	},
	{
		name:    "install: --atomic, and a pre-delete hook fails too",
		when:    []string{"! " + install + " --atomic --set events={post-install,pre-delete},failing={post-install-first,pre-delete-middle}"},
		says:    "an error occurred while uninstalling the release",
		differs: []difference{failedDelete},
	},
	{
		name: "install: --atomic, and a post-delete hook fails too",
		when: []string{"! " + install + " --atomic --set events={post-install,post-delete},failing={post-install-first,post-delete-first}"},
	},
	{
		name: "install: --atomic --no-hooks, and the server refuses a resource",
		when: []string{"! " + install + " --atomic --no-hooks --set rejected=true,events={pre-install,pre-delete}"},
	},
	{
		name: "install: the server refuses a resource",
		when: []string{"! " + install + " --set extra={more},rejected=true,events={pre-install,post-install}"},
	},
	{
		name: "install: a resource of an unknown kind",
		when: []string{"! " + install + " --set unknownKind=true,events={pre-install}"},
	},
	{
		name:  "install: somebody's object in the way",
		given: []step{somebodyCreates("settings")},
		when: []string{
			"! " + install + " --set events={pre-install}",
			install + " --take-ownership --set events={pre-install}",
		},
		says: "cannot be imported into the current release",
	},
	{
		name: "install: a hook is in the way of the manifest",
		when: []string{"! " + install + " --set seize=pre-install"},
		says: `"settings" already exists`,
	},
	{
		name: "install: a hook makes what the manifest needs",
		when: []string{install + " --set worker=pre-install"},
	},
	{
		name: "install: --wait",
		when: []string{install + " --wait --set server=true,events={post-install}"},
	},
	{
		name: "install: --wait in vain",
		when: []string{"! " + install + " --wait --timeout 1s --set server=true,stuck=true,events={post-install}"},
	},
	{
		name: "install: --wait-for-jobs",
		when: []string{install + " --wait --wait-for-jobs --set task=true,events={post-install}"},
	},
	{
		name: "install: --wait-for-jobs in vain",
		when: []string{"! " + install + " --wait --wait-for-jobs --timeout 1s --set task=true,slow={task},events={post-install}"},
	},
	{
		name: "install: --dry-run",
		when: []string{
			install + " --dry-run --set secret=true,events={pre-install}",
			install + " --dry-run=client --set secret=true,events={pre-install} --hide-secret --hide-notes",
			install + " --dry-run=server --set secret=true,events={pre-install} --hide-secret -o yaml",
			"! " + install + " --dry-run=maybe",
			"! " + install + " --hide-secret",
			install + " --dry-run=none",
		},
		says: "Hiding Kubernetes secrets requires a dry-run mode",
	},
	{
		name: "install: --output",
		when: []string{
			"install a charts/release -o table --set manifest=false",
			"install b charts/release -o json --set manifest=false,events={pre-install},kind=configmap",
			"install c charts/release -o yaml --set manifest=false",
			"! install d charts/release -o xml --set manifest=false",
		},
	},
	{
		name: "install: notes",
		when: []string{
			"install a charts/release --set manifest=false --hide-notes",
			"install b notes --render-subchart-notes",
			"install c notes",
		},
		given: []step{files(notes)},
		says:  "Notes of the part.",
	},
	{
		name: "install: --description and --labels",
		when: []string{
			"! " + install + " --labels owner=me",
			install + " --description because --labels team=blue,stage=test",
		},
		says: "system reserved label",
	},
	{
		name: "install: --post-renderer",
		when: []string{
			install + " --post-renderer sed --post-renderer-args s/one/two/ --set events={pre-install},kind=configmap",
			"! install b charts/release --post-renderer false",
		},
	},
	{
		name: "install: --version of a chart that is a folder",
		when: []string{install + " --version 9.9.9"},
	},
	{
		name: "install: the schemas of a chart and of the server",
		when: []string{
			"! " + install + " --set text=abcdefghijklmnopqrstuvwxyz",
			install + " --set text=abcdefghijklmnopqrstuvwxyz --skip-schema-validation",
			"install b charts/release --set manifest=false,misspelt=true",
			"install c charts/release --set manifest=false,misspelt=true --disable-openapi-validation --take-ownership",
		},
		says: "maxLength",
	},
	{
		name:  "install: definitions of custom resources",
		given: []step{files(widgets)},
		when: []string{
			"! install app widgets --skip-crds",
			"install app widgets",
			"install b widgets --set widget=false",
		},
		says: `no matches for kind "Widget"`,
	},
	{
		name: "install: --create-namespace",
		when: []string{
			"! " + install + " --namespace NAMESPACE-other",
			install + " --namespace NAMESPACE-other --create-namespace --set events={pre-install},kind=configmap",
		},
		says: "not found",
	},
	{
		name:  "install: a name in use",
		given: []step{installed},
		when: []string{
			"! " + install,
			"! " + install + " --replace",
		},
		says: "cannot re-use a name that is still in use",
	},
	{
		name:  "install: --replace of a release that failed",
		given: []step{helmFails(install + " --set rejected=true")},
		when: []string{
			"! " + install,
			install + " --replace --set text=two",
		},
	},
	{
		name:  "install: --replace of a release that was uninstalled",
		given: []step{installed, helm(upgrade), helm("uninstall app --keep-history")},
		when: []string{
			"! " + install,
			install + " --replace --set events={pre-install},text=two",
		},
	},
	{
		name:  "install: --replace, and a hook fails",
		given: []step{installed, helm("uninstall app --keep-history")},
		when:  []string{"! " + install + " --replace --set events={pre-install},failing={pre-install-first}"},
	},
	{
		name:  "install: pending",
		given: []step{installed, recorded("app", release.StatusPendingInstall)},
		when: []string{
			"! " + install,
			"! " + install + " --replace",
		},
	},
	{
		name: "install: --name-template",
		when: []string{"install charts/release --name-template {{`APP`|lower}}"},
	},
	{
		name: "install: wrong arguments",
		when: []string{
			"! install",
			"! install app",
			"! install app charts/release more",
			"! install Not_A_Name charts/release",
			"! install app charts/nowhere",
			"! install app charts/release --no-such-flag",
			"! install app charts/release --timeout soon",
		},
		differs: []difference{wrongArguments},
	},
}

var upgrades = []scenario{
	{
		name:  "upgrade",
		given: []step{helm(install + " --set extra={old,both},secret=true")},
		when:  []string{"upgrade app charts/release --set events={pre-upgrade,post-upgrade},extra={both,new},text=two"},
		says:  "Revision 2 of app says two.",
	},
	{
		name:  "upgrade: nothing changes",
		given: []step{helm(install + " --set manifest=false,extra={more},events={pre-install+pre-upgrade},kind=configmap")},
		when:  []string{upgrade, upgrade},
	},
	{
		name:  "upgrade: hooks are replaced",
		given: []step{helm(install + " --set events={pre-install+pre-upgrade,post-install+post-upgrade},kind=configmap")},
		when:  []string{upgrade + " --reuse-values --set text=two", upgrade + " --reuse-values --set text=three"},
	},
	{
		name:  "upgrade: Jobs are replaced",
		given: []step{helm(install + " --set events={pre-install+pre-upgrade},kind=job")},
		when:  []string{upgrade + " --reuse-values --set text=two"},
	},
	{
		name:  "upgrade: hooks are deleted after success",
		given: []step{installed},
		when:  []string{upgrade + " --set kind=job,events={post-upgrade},deletePolicy={hook-succeeded,hook-failed}"},
	},
	{
		name:  "upgrade: hooks are deleted after a failure",
		given: []step{installed},
		when:  []string{"! " + upgrade + " --set kind=job,events={pre-upgrade},failing={pre-upgrade-last},deletePolicy={before-hook-creation,hook-succeeded,hook-failed}"},
	},
	{
		name:  "upgrade: the logs of hooks",
		given: []step{installed},
		when: []string{
			upgrade + " --set events={pre-upgrade},logPolicy={hook-succeeded}",
			"! " + upgrade + " --set events={post-upgrade},failing={post-upgrade-first},logPolicy={hook-failed}",
		},
	},
	{
		name:    "upgrade: a hook takes too long",
		given:   []step{installed},
		when:    []string{"! " + upgrade + " --timeout 1s --set events={post-upgrade},slow={post-upgrade-first}"},
		differs: []difference{tookTooLong("pod post-upgrade-first", "1s")},
	},
	{
		name:  "upgrade: hooks alone",
		given: []step{helm(install + " --set manifest=false")},
		when:  []string{upgrade + " --set events={pre-upgrade,post-upgrade}"},
	},
	{
		name:  "upgrade: a hook makes what the manifest needs",
		given: []step{installed},
		when:  []string{upgrade + " --set worker=pre-upgrade"},
	},
	{
		name:  "upgrade: a hook takes the place of what the manifest has",
		given: []step{installed},
		when:  []string{upgrade + " --set seize=pre-upgrade,text=two"},
	},
	{
		name:  "upgrade: somebody has changed and deleted objects",
		given: []step{helm(install + " --set extra={more}"), somebodyChanges("settings"), somebodyDeletes("more")},
		when:  []string{upgrade + " --reuse-values", upgrade + " --reuse-values --set text=two"},
	},
	{
		name:  "upgrade: --no-hooks",
		given: []step{installed},
		when:  []string{upgrade + " --no-hooks --set events={pre-upgrade,post-upgrade}"},
	},
	{
		name: "upgrade: --install",
		when: []string{
			upgrade + " --install --set events={pre-install,pre-upgrade}",
			upgrade + " --install --set events={post-install,post-upgrade}",
		},
		says: "does not exist. Installing it now.",
	},
	{
		name: "upgrade: --install, and a hook fails",
		when: []string{
			"! " + upgrade + " --install --set events={pre-install},failing={pre-install-middle}",
			upgrade + " --install --set events={pre-upgrade}",
		},
	},
	{
		name: "upgrade: --install --atomic, and a hook fails",
		when: []string{"! " + upgrade + " --install --atomic --set events={post-install,post-delete},failing={post-install-middle}"},
	},
	{
		name:  "upgrade: --install after an uninstallation",
		given: []step{installed, helm("uninstall app --keep-history")},
		when: []string{
			"! " + upgrade,
			upgrade + " --install --set events={pre-install,pre-upgrade}",
		},
	},
	{
		name: "upgrade: --install as a simulation",
		when: []string{
			upgrade + " --install --dry-run --set events={pre-install}",
			upgrade + " --install --dry-run=server -o json --set events={pre-install}",
		},
	},
	{
		name:  "upgrade: --install with options of an installation",
		given: []step{files(widgets)},
		when: []string{
			"! upgrade app widgets --install --skip-crds",
			"upgrade app widgets --install --namespace NAMESPACE-other --create-namespace --description because --labels team=blue",
			"upgrade app widgets --namespace NAMESPACE-other --skip-crds",
		},
	},
	{
		name:  "upgrade: --atomic",
		given: []step{installed},
		when:  []string{upgrade + " --atomic --set events={pre-upgrade,post-upgrade}"},
	},
	{
		name:  "upgrade: --atomic, and a pre-upgrade hook fails",
		given: []step{helm(install + " --set events={pre-rollback,post-rollback}")},
		when:  []string{"! " + upgrade + " --atomic --set events={pre-upgrade},failing={pre-upgrade-middle},extra={new},text=two"},
		says:  "has been rolled back due to atomic being set",
	},
	{
		name:  "upgrade: --atomic, and a post-upgrade hook fails",
		given: []step{helm(install + " --set events={pre-rollback,post-rollback},extra={old}")},
		when:  []string{"! " + upgrade + " --atomic --set events={post-upgrade},failing={post-upgrade-middle},extra={new},text=two"},
		says:  "has been rolled back due to atomic being set",
	},
	{
		name:  "upgrade: --atomic, and the server refuses a resource",
		given: []step{installed},
		when:  []string{"! " + upgrade + " --atomic --set extra={new},rejected=true,text=two,events={post-rollback}"},
	},
	{
		name:  "upgrade: --atomic --no-hooks, and the server refuses a resource",
		given: []step{helm(install + " --set events={pre-rollback}")},
		when:  []string{"! " + upgrade + " --atomic --no-hooks --set rejected=true,events={pre-upgrade}"},
	},
	{
		name:  "upgrade: --atomic --cleanup-on-fail, and a post-upgrade hook fails",
		given: []step{installed},
		when:  []string{"! " + upgrade + " --atomic --cleanup-on-fail --set events={post-upgrade},failing={post-upgrade-first},extra={new}"},
	},
	{
		name:    "upgrade: --atomic, and a pre-rollback hook fails too",
		given:   []step{helm(install + " --set events={pre-rollback},failing={pre-rollback-middle}")},
		when:    []string{"! " + upgrade + " --atomic --set events={post-upgrade},failing={post-upgrade-first}"},
		says:    "an error occurred while rolling back the release",
		differs: []difference{failedRollback("Rollback \"app\" failed: 1 error occurred:\n\t* pod pre-rollback-middle failed\n\n", "Rollback \"app\" failed: 1 error occurred:\n\t* pod pre-rollback-middle failed\n\n")},
	},
	{
		name:    "upgrade: --atomic, and a post-rollback hook fails too",
		given:   []step{helm(install + " --set events={post-rollback},failing={post-rollback-middle}")},
		when:    []string{"! " + upgrade + " --atomic --set events={pre-upgrade},failing={pre-upgrade-first}"},
		says:    "an error occurred while rolling back the release",
		differs: []difference{failedRollback("Release \"app\" failed: 1 error occurred:\n\t* pod post-rollback-middle failed\n\n", "Release \"app\" failed: 1 error occurred:\n\t* pod post-rollback-middle failed\n\n")},
	},
	{
		name:  "upgrade: --atomic without a revision that was good",
		given: []step{helmFails(install + " --set rejected=true")},
		when:  []string{"! " + upgrade + " --atomic --set events={post-upgrade},failing={post-upgrade-first}"},
		says:  "unable to find a previously successful release",
	},
	{
		name:  "upgrade: --atomic past a revision that failed",
		given: []step{installed, helmFails(upgrade + " --set rejected=true")},
		when:  []string{"! " + upgrade + " --atomic --set events={post-upgrade},failing={post-upgrade-first}"},
	},
	{
		name:  "upgrade: --atomic, and waiting is in vain",
		given: []step{installed},
		when:  []string{"! " + upgrade + " --atomic --timeout 1s --set server=true,stuck=true,events={post-upgrade}"},
	},
	{
		name:  "upgrade: the server refuses a resource",
		given: []step{installed},
		when:  []string{"! " + upgrade + " --set extra={new},rejected=true,events={pre-upgrade,post-upgrade}"},
	},
	{
		name:  "upgrade: --cleanup-on-fail, and the server refuses a resource",
		given: []step{installed},
		when:  []string{"! " + upgrade + " --cleanup-on-fail --set extra={new},rejected=true"},
	},
	{
		name:  "upgrade: --cleanup-on-fail, and a hook fails",
		given: []step{installed},
		when:  []string{"! " + upgrade + " --cleanup-on-fail --set extra={new},events={post-upgrade},failing={post-upgrade-last}"},
	},
	{
		name:  "upgrade: what can't be changed",
		given: []step{helm(install + " --set frozen=water")},
		when: []string{
			"! " + upgrade + " --set frozen=ice,text=two",
			"! " + upgrade + " --set frozen=ice,text=two --force",
			upgrade + " --set frozen=water,text=three --force",
		},
	},
	{
		name:  "upgrade: values",
		given: []step{helm(install + " --set text=two,more.a=b")},
		when: []string{
			upgrade,
			upgrade + " --set more.c=d",
			upgrade + " --reuse-values --set more.e=f",
			upgrade + " --reset-then-reuse-values --set text=three",
			upgrade + " --reset-values --reuse-values",
		},
	},
	{
		name:  "upgrade: --history-max",
		given: []step{installed, helm(upgrade), helmFails(upgrade + " --set rejected=true")},
		when: []string{
			upgrade + " --history-max 3 --set events={pre-upgrade}",
			"! " + upgrade + " --history-max 2 --set kind=configmap,events={post-upgrade},failing={post-upgrade-first}",
			upgrade + " --history-max 1 --set text=two",
		},
	},
	{
		name:  "upgrade: somebody's object in the way",
		given: []step{installed, somebodyCreates("new")},
		when: []string{
			"! " + upgrade + " --set extra={new},events={pre-upgrade}",
			upgrade + " --take-ownership --set extra={new},events={pre-upgrade}",
		},
		says: "cannot be imported into the current release",
	},
	{
		name:  "upgrade: --description and --labels",
		given: []step{helm(install + " --labels team=blue,stage=test")},
		when: []string{
			upgrade + " --description because --labels team=null,more=yes",
			"! " + upgrade + " --labels owner=me",
		},
	},
	{
		name:  "upgrade: --wait",
		given: []step{installed},
		when:  []string{upgrade + " --wait --wait-for-jobs --set server=true,task=true,events={post-upgrade}"},
	},
	{
		name:  "upgrade: --wait in vain",
		given: []step{installed},
		when:  []string{"! " + upgrade + " --wait --wait-for-jobs --timeout 1s --cleanup-on-fail --set task=true,slow={task},events={post-upgrade}"},
	},
	{
		name:  "upgrade: --recreate-pods",
		given: []step{helm(install + " --wait --set server=true")},
		when:  []string{upgrade + " --recreate-pods --reuse-values --set more.a=b"},
	},
	{
		name:  "upgrade: simulations",
		given: []step{installed},
		when: []string{
			upgrade + " --dry-run --set events={pre-upgrade},secret=true",
			upgrade + " --dry-run=client --set secret=true --hide-secret --hide-notes --description because",
			upgrade + " --dry-run=server --set secret=true -o yaml",
			"! " + upgrade + " --dry-run=maybe",
			"! " + upgrade + " --hide-secret",
			upgrade + " --dry-run=none",
		},
	},
	{
		name:  "upgrade: --output, notes and --post-renderer",
		given: []step{helm(install + " --set manifest=false"), files(notes)},
		when: []string{
			upgrade + " -o json --set events={pre-upgrade},kind=configmap",
			upgrade + " -o yaml --post-renderer sed --post-renderer-args s/one/two/",
			upgrade + " --hide-notes",
			"upgrade app notes --render-subchart-notes",
			"! " + upgrade + " --post-renderer false",
		},
		says: "Notes of the part.",
	},
	{
		name:  "upgrade: the schemas of a chart and of the server",
		given: []step{installed},
		when: []string{
			"! " + upgrade + " --set text=abcdefghijklmnopqrstuvwxyz",
			"upgrade app charts/release --set misspelt=true",
			upgrade + " --set text=abcdefghijklmnopqrstuvwxyz,misspelt=true --skip-schema-validation",
			"! " + upgrade + " --set unknownKind=true",
		},
	},
	{
		name:  "upgrade: after a failure",
		given: []step{helmFails(install + " --set events={pre-install},failing={pre-install-first}")},
		when: []string{
			"! " + upgrade + " --set events={pre-upgrade},failing={pre-upgrade-first}",
			upgrade + " --set events={post-upgrade},kind=configmap --version 9.9.9",
			"! " + upgrade + " --set kind=configmap,events={pre-upgrade},failing={pre-upgrade-last}",
			upgrade + " --reset-values",
		},
	},
	{
		name:  "upgrade: while another operation goes on",
		given: []step{installed, recorded("app", release.StatusPendingUpgrade)},
		when: []string{
			"! " + upgrade,
			"! " + upgrade + " --install",
			"! " + upgrade + " --atomic",
		},
		says: "another operation (install/upgrade/rollback) is in progress",
	},
	{
		name:  "upgrade: while a rollback goes on",
		given: []step{installed, helm(upgrade), recorded("app", release.StatusPendingRollback)},
		when:  []string{"! " + upgrade},
		says:  "another operation (install/upgrade/rollback) is in progress",
	},
	{
		name:  "upgrade: wrong arguments",
		given: []step{installed},
		when: []string{
			"! upgrade",
			"! upgrade app",
			"! upgrade app charts/release more",
			"! upgrade Not_A_Name charts/release",
			"! upgrade nothing charts/release",
			"! upgrade app charts/nowhere",
			"! upgrade app charts/release --no-such-flag",
			"! upgrade app charts/release --replace",
		},
		differs: []difference{wrongArguments},
	},
}

var rollbacks = []scenario{
	{
		name:  "rollback",
		given: []step{helm(install + " --set extra={old,both},events={pre-rollback,post-rollback}"), helm(upgrade + " --set extra={both,new},text=two,events={pre-upgrade},kind=configmap")},
		when:  []string{"rollback app"},
		says:  "Rollback was a success! Happy Helming!",
	},
	{
		name:  "rollback: to other revisions",
		given: []step{installed, helm(upgrade + " --set text=two"), helm(upgrade + " --set text=three,events={pre-rollback},kind=configmap")},
		when: []string{
			"rollback app 1",
			"rollback app 3",
			"rollback app 0",
			"rollback app 6 more",
		},
	},
	{
		name: "rollback: the revisions have other hooks",
		given: []step{
			helm(install + " --set events={pre-rollback},kind=configmap"),
			helm(upgrade + " --set events={pre-rollback+post-rollback},kind=configmap"),
			helm(upgrade + " --set events={post-rollback},kind=configmap"),
		},
		when: []string{"rollback app 1", "rollback app 2", "rollback app 3"},
	},
	{
		name:  "rollback: hooks are deleted after success",
		given: []step{helm(install + " --set kind=job,events={pre-rollback},deletePolicy={hook-succeeded,hook-failed}"), helm(upgrade + " --reset-values")},
		when:  []string{"rollback app 1"},
	},
	{
		name:  "rollback: the logs of hooks",
		given: []step{helm(install + " --set events={pre-rollback},logPolicy={hook-succeeded}"), helm(upgrade + " --reset-values")},
		when:  []string{"rollback app 1"},
	},
	{
		name:    "rollback: a hook takes too long",
		given:   []step{helm(install + " --set events={pre-rollback},slow={pre-rollback-first}"), helm(upgrade + " --reset-values")},
		when:    []string{"! rollback app 1 --timeout 1s"},
		differs: []difference{failedRollback("Rollback \"app\" failed: 1 error occurred:\n\t* timed out waiting for the condition\n\n", "Rollback \"app\" failed: 1 error occurred:\n\t* pod pre-rollback-first: not done after 1s (--timeout), and not ended by that: timed out waiting for the condition\n\n")},
	},
	{
		name:  "rollback: hooks alone",
		given: []step{helm(install + " --set manifest=false,events={pre-rollback,post-rollback}"), helm(upgrade + " --reuse-values")},
		when:  []string{"rollback app 1"},
	},
	{
		name:  "rollback: --no-hooks",
		given: []step{helm(install + " --set events={pre-rollback,post-rollback}"), helm(upgrade + " --set text=two")},
		when:  []string{"rollback app 1 --no-hooks"},
	},
	{
		name:  "rollback: --dry-run",
		given: []step{helm(install + " --set events={pre-rollback}"), helm(upgrade + " --set text=two")},
		when: []string{
			"rollback app 1 --dry-run",
			"rollback app --dry-run=true",
			"! rollback app 9 --dry-run",
			"! rollback app 1 --dry-run=client",
		},
		differs: []difference{{"helm4-flags", false, []rewriting{
			{codes, `1\n1\n$`, "1\n0\n"},
			{stdout, `$`, "Rollback was a success! Happy Helming!\n"},
			{errs, `invalid argument "client".*\n`, ""},
		}}},
	},
	{
		name:  "rollback: no such revision",
		given: []step{installed},
		when: []string{
			"! rollback app",
			"! rollback app 9",
			"! rollback app x",
			"! rollback app -- -1",
			"! rollback nothing",
			"! rollback nothing 1",
			"! rollback Not_A_Name",
			"! rollback",
			"! rollback app 1 --no-such-flag",
			"rollback app 1",
		},
		says:    "release has no 9 version",
		differs: []difference{wrongArguments},
	},
	{
		name:  "rollback: after a hook of one has failed",
		given: []step{helm(install + " --set events={pre-rollback},failing={pre-rollback-first}"), helm(upgrade + " --reset-values")},
		when: []string{
			"! rollback app 1",
			"rollback app 2",
		},
		differs: []difference{failedRollback("Rollback \"app\" failed: 1 error occurred:\n\t* pod pre-rollback-first failed\n\n", "Rollback \"app\" failed: 1 error occurred:\n\t* pod pre-rollback-first failed\n\n")},
	},
	{
		name:  "rollback: of an upgrade that failed",
		given: []step{installed, helmFails(upgrade + " --set rejected=true,extra={new},text=two")},
		when:  []string{"rollback app"},
	},
	{
		name:  "rollback: to a revision that failed",
		given: []step{helmFails(install + " --set rejected=true,events={pre-rollback}"), helm(upgrade + " --reset-values")},
		when: []string{
			"! rollback app 1",
			"! rollback app 1 --cleanup-on-fail",
			"rollback app 2",
		},
	},
	{
		name:  "rollback: --cleanup-on-fail",
		given: []step{helmFails(install + " --set extra={new},rejected=true"), helm(upgrade + " --reset-values")},
		when:  []string{"! rollback app 1 --cleanup-on-fail"},
	},
	{
		name:  "rollback: --cleanup-on-fail, and a hook fails before anything was created",
		given: []step{helm(install + " --set events={pre-rollback},failing={pre-rollback-first}"), helm(upgrade + " --reset-values")},
		when:  []string{"! rollback app 1 --cleanup-on-fail"},
		says:  "1 error occurred",
		differs: []difference{failedRollback(
			"Rollback \"app\" failed: 1 error occurred:\n\t* pod pre-rollback-first failed\n\n",
			"Rollback \"app\" failed: 1 error occurred:\n\t* pod pre-rollback-first failed\n\n",
		)},
	},
	{
		name:  "rollback: of an operation that is pending",
		given: []step{installed, helm(upgrade + " --set text=two"), recorded("app", release.StatusPendingUpgrade)},
		when:  []string{"rollback app 1", upgrade},
	},
	{
		name:  "rollback: after an uninstallation",
		given: []step{helm(install + " --set extra={more},events={pre-rollback}"), helm(upgrade), helm("uninstall app --keep-history")},
		when:  []string{"rollback app 1", upgrade},
	},
	{
		name:  "rollback: --force",
		given: []step{installed, helm(upgrade + " --set text=two"), somebodyChanges("settings")},
		when:  []string{"rollback app 1 --force"},
	},
	{
		name:  "rollback: somebody has changed and deleted objects",
		given: []step{helm(install + " --set extra={more}"), helm(upgrade + " --set text=two"), somebodyChanges("settings")},
		when:  []string{"rollback app 1"},
	},
	{
		name:  "rollback: --history-max",
		given: []step{installed, helm(upgrade), helm(upgrade)},
		when:  []string{"rollback app 1 --history-max 2", "rollback app --history-max 1"},
	},
	{
		name:  "rollback: --wait --recreate-pods",
		given: []step{helm(install + " --set task=true"), helm(upgrade + " --wait --set server=true"), helm(upgrade + " --reuse-values --set more.a=b")},
		when:  []string{"rollback app 2 --recreate-pods", "rollback app 1 --wait --wait-for-jobs"},
	},
	{
		name:  "rollback: --wait in vain",
		given: []step{helm(install + " --set server=true,stuck=true,events={post-rollback}"), helm(upgrade + " --reset-values")},
		when:  []string{"! rollback app 1 --wait --timeout 1s"},
	},
	{
		name:  "rollback: --wait-for-jobs in vain",
		given: []step{helm(install + " --set task=true,slow={task},events={post-rollback}"), helm(upgrade + " --reset-values")},
		when:  []string{"! rollback app 1 --wait --wait-for-jobs --timeout 1s"},
	},
}

var uninstalls = []scenario{
	{
		name:  "uninstall",
		given: []step{helm(install + " --set extra={more},secret=true,events={pre-delete,post-delete}"), helm(upgrade + " --reuse-values")},
		when:  []string{"uninstall app"},
		says:  `release "app" uninstalled`,
	},
	{
		name:  "uninstall: Jobs as hooks",
		given: []step{helm(install + " --set kind=job,events={pre-delete+post-delete},deletePolicy={before-hook-creation,hook-succeeded}")},
		when:  []string{"uninstall app"},
	},
	{
		name:    "uninstall: a failed hook is deleted",
		given:   []step{helm(install + " --set kind=job,events={pre-delete},failing={pre-delete-middle},deletePolicy={hook-failed,hook-succeeded}")},
		when:    []string{"! uninstall app"},
		differs: []difference{failedDelete},
	},
	{
		name:  "uninstall: the logs of hooks",
		given: []step{helm(install + " --set events={pre-delete,post-delete},failing={post-delete-last},logPolicy={hook-succeeded,hook-failed}")},
		when:  []string{"! uninstall app"},
	},
	{
		name:  "uninstall: a hook takes too long",
		given: []step{helm(install + " --set events={post-delete},slow={post-delete-first}")},
		when:  []string{"! uninstall app --timeout 1s"},
	},
	{
		name:  "uninstall: hooks alone",
		given: []step{helm(install + " --set manifest=false,events={pre-delete,post-delete}")},
		when:  []string{"uninstall app"},
	},
	{
		name:  "uninstall: after a hook has failed",
		given: []step{helm(install + " --set events={pre-delete},failing={pre-delete-first}")},
		when: []string{
			"! uninstall app --keep-history",
			"uninstall app --keep-history --no-hooks",
		},
		differs: []difference{failedDelete},
	},
	{
		name:  "uninstall: --no-hooks",
		given: []step{helm(install + " --set events={pre-delete,post-delete}")},
		when:  []string{"uninstall app --no-hooks --keep-history"},
	},
	{
		name:  "uninstall: --dry-run",
		given: []step{helm(install + " --set kept=true,events={pre-delete}")},
		when: []string{
			"uninstall app --dry-run",
			"! uninstall nothing --dry-run",
			"! uninstall nothing --dry-run --ignore-not-found",
			"! uninstall app --dry-run=client",
		},
	},
	{
		name:  "uninstall: --keep-history",
		given: []step{helm(install + " --set events={pre-delete},kind=configmap"), helm(upgrade + " --reuse-values")},
		when: []string{
			"uninstall app --keep-history --description because",
			"! uninstall app --keep-history",
			"uninstall app",
			"! uninstall app",
		},
		says: "is already deleted",
	},
	{
		name:  "uninstall: --keep-history, and a post-delete hook fails",
		given: []step{helm(install + " --set events={post-delete},failing={post-delete-middle}")},
		when:  []string{"! uninstall app --keep-history"},
	},
	{
		name: "uninstall: several releases, and one is missing",
		given: []step{
			helm("install a charts/release --set manifest=false,extra={a},events={pre-delete},kind=configmap"),
			helm("install b charts/release --set manifest=false,extra={b},events={post-delete},kind=configmap"),
			helm("install c charts/release --set manifest=false,extra={c}"),
			helm("install d charts/release --set manifest=false,extra={d}"),
		},
		when: []string{
			"! uninstall a nothing b",
			"uninstall b nothing c --ignore-not-found",
			"del d",
		},
		says: "Release not loaded: nothing",
	},
	{
		name: "uninstall: several releases, and a hook of one fails",
		given: []step{
			helm("install a charts/release --set manifest=false,extra={a}"),
			helm("install b charts/release --set manifest=false,extra={b},events={pre-delete},failing={pre-delete-middle}"),
			helm("install c charts/release --set manifest=false,extra={c}"),
		},
		when:    []string{"! uninstall a b c"},
		differs: []difference{failedDelete},
	},
	{
		name:  "uninstall: --cascade",
		given: []step{helm("install a charts/release --set manifest=false,extra={a}"), helm("install b charts/release --set manifest=false,extra={b}"), installed},
		when: []string{
			"! uninstall a --cascade sideways",
			"uninstall a --cascade foreground",
			"uninstall b --cascade orphan",
			"uninstall app --cascade background",
		},
		says: "invalid cascade value",
	},
	{
		name:  "uninstall: --cascade orphan of a Deployment",
		given: []step{helm(install + " --set server=true,events={post-delete},kind=configmap")},
		when:  []string{"uninstall app --cascade orphan"},
	},
	{
		name:  "uninstall: --wait",
		given: []step{helm(install + " --wait --set server=true,events={post-delete}")},
		when:  []string{"uninstall app --wait --cascade foreground"},
	},
	{
		name:  "uninstall: what is to be kept, and what is gone",
		given: []step{helm(install + " --set kept=true,extra={more}"), somebodyDeletes("more")},
		when:  []string{"uninstall app"},
		says:  "These resources were kept due to the resource policy",
	},
	{
		name:  "uninstall: a release that failed",
		given: []step{helmFails(install + " --set rejected=true,events={pre-install,pre-delete},failing={pre-install-first}")},
		when:  []string{"uninstall app"},
	},
	{
		name:  "uninstall: while an operation goes on",
		given: []step{installed, recorded("app", release.StatusPendingInstall)},
		when:  []string{"uninstall app"},
	},
	{
		name: "uninstall: wrong arguments",
		when: []string{
			"! uninstall",
			"! uninstall nothing",
			"uninstall nothing --ignore-not-found",
			"! uninstall Not_A_Name",
			"! uninstall nothing --no-such-flag",
		},
		differs: []difference{wrongArguments},
	},
}

var tests = []scenario{
	{
		name:  "test",
		given: []step{helm(install + " --set events={test}")},
		when:  []string{"test app"},
		says:  "Phase:          Succeeded",
	},
	{
		name:  "test: again",
		given: []step{helm(install + " --set events={test},kind=job"), helm(upgrade + " --reuse-values"), helm("test app")},
		when:  []string{"test app"},
	},
	{
		name:  "test: hooks of several events",
		given: []step{helm(install + " --set events={pre-install+test,post-install},kind=configmap")},
		when:  []string{"test app --hide-notes"},
	},
	{
		name:  "test: tests are deleted",
		given: []step{helm(install + " --set kind=job,events={test},failing={test-last},deletePolicy={hook-succeeded,hook-failed}")},
		when:  []string{"! test app"},
	},
	{
		name:  "test: one test among several of its weight fails",
		given: []step{helm(install + " --set sameWeight=true,duration=1s,events={test},failing={test-first}")},
		when:  []string{"! test app"},
		differs: []difference{{"failed-hook", true, []rewriting{
			{field: stdout},
			{statuses, `"test-last=" "test-middle="`, `"test-last=Succeeded" "test-middle=Succeeded"`},
			{field: work},
			{field: objects},
		}}},
	},
	{
		name:  "test: --filter",
		given: []step{helm(install + " --set events={test},failing={test-middle},kind=configmap")},
		when: []string{
			"test app --filter name=test-first",
			"test app --filter name=test-first,name=test-last",
			"test app --filter !name=test-middle",
			"test app --filter !name=test-middle,name=test-last,!name=test-first",
			"test app --filter name=nothing",
			"! test app --filter name=test-middle",
			"! test app --filter nonsense",
		},
	},
	{
		name:  "test: --logs",
		given: []step{helm(install + " --set events={test}")},
		when:  []string{"test app --logs --filter !name=test-middle"},
		says:  "POD LOGS: test-last",
	},
	{
		name:  "test: --logs of a failure",
		given: []step{helm(install + " --set events={test},failing={test-first}")},
		when:  []string{"! test app --logs --filter name=test-first"},
		says:  "POD LOGS: test-first",
	},
	{
		name:  "test: --logs of tests that are no Pods",
		given: []step{helm(install + " --set events={test},kind=configmap")},
		when:  []string{"! test app --logs"},
		says:  "unable to get pod logs for test-first",
	},
	{
		name:  "test: the logs of hooks",
		given: []step{helm(install + " --set events={test},failing={test-last},logPolicy={hook-succeeded,hook-failed}")},
		when:  []string{"! test app"},
	},
	{
		name:  "test: a test takes too long",
		given: []step{helm(install + " --set events={test},slow={test-first}")},
		when:  []string{"! test app --timeout 1s"},
	},
	{
		name:  "test: nothing to test",
		given: []step{helm(install + " --set manifest=false")},
		when: []string{
			"test app",
			"test app --logs",
		},
		says: "TEST SUITE: None",
	},
	{
		name:  "test: a release that was uninstalled",
		given: []step{helm(install + " --set events={test},kind=configmap"), helm("uninstall app --keep-history")},
		when:  []string{"test app"},
	},
	{
		name:  "test: while another operation goes on",
		given: []step{helm(install + " --set events={test},kind=configmap"), recorded("app", release.StatusPendingUpgrade)},
		when:  []string{"test app"},
	},
	{
		name: "test: wrong arguments",
		when: []string{
			"! test",
			"! test app more",
			"! test nothing",
			"! test Not_A_Name",
			"! test app -o json",
			"! test app --no-hooks",
		},
		differs: []difference{wrongArguments},
	},
}
