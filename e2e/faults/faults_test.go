package faults

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fault is something that goes wrong between the plugin and the cluster, or in the cluster.
type fault struct {
	name    string
	title   string // as the page has it
	moments []string
	// sample is the cell that stands for the fault in a short run: a moment and a command.
	sample [2]string
	// inject makes it go wrong, when the call has brought the command to the moment. Nothing passes the proxy meanwhile.
	inject func(c *cell, at *call)
	// lasts is how long after its end, at most, the plugin can learn of a Job's end because of the fault.
	lasts   time.Duration
	timeout string // of the command, if it isn't the usual one
	fails   bool   // whether the cluster never comes back
	check   func(c *cell)
}

// moment tells whether a command has come to where a fault is wanted.
type moment func(p *proxy, c *call) bool

const (
	atStart     = "when the release's record is first written"
	atSetup     = "while setup hooks are created"
	atDeletion  = "while hooks of an earlier run are deleted"
	atJobs      = "while Jobs run"
	atRecord    = "when the record is written while hooks run"
	atClean     = "while hooks that have succeeded are deleted"
	atResources = "while the chart's resources change"
	atPurge     = "when the record is removed"
	atRenewal   = "when the operation renews its lease"
)

var everyMoment = []string{atStart, atSetup, atDeletion, atJobs, atRecord, atClean, atResources, atPurge}

var moments = map[string]moment{
	atStart: func(_ *proxy, c *call) bool { return c.step == asked && c.resource == "secrets" && c.writes() },
	atSetup: func(_ *proxy, c *call) bool {
		return c.step == asked && c.verb == "create" && strings.HasPrefix(c.object(), "configmaps/pre-0-")
	},
	atDeletion: func(_ *proxy, c *call) bool {
		return c.step == asked && c.verb == "delete" && strings.HasPrefix(c.object(), "jobs/pre-0-")
	},
	atJobs: func(p *proxy, c *call) bool {
		return c.step == streamed && c.resource == "jobs" && p.count(created("jobs/pre-0-")) == 3
	},
	atRecord: func(p *proxy, c *call) bool {
		return c.step == asked && c.resource == "secrets" && c.writes() && p.count(created("jobs/pre-0-")) > 0
	},
	atClean: func(p *proxy, c *call) bool {
		return c.step == asked && c.verb == "delete" && strings.Contains(c.name, "pre-") && p.count(created("jobs/pre-5-")) == 3
	},
	atResources: func(_ *proxy, c *call) bool {
		return c.step == asked && c.writes() && strings.HasPrefix(c.name, "resource-")
	},
	atRenewal: func(_ *proxy, c *call) bool { return c.step == asked && c.resource == "leases" && c.verb == "update" },
	atPurge:   func(_ *proxy, c *call) bool { return c.step == asked && c.resource == "secrets" && c.verb == "delete" },
}

// comes tells whether a command comes to a moment.
func (c command) comes(moment string) bool {
	switch moment {
	case atResources:
		return c.resources
	case atPurge:
		return c.name == "uninstall"
	default:
		return true
	}
}

func (c *call) writes() bool {
	return slices.Contains([]string{"create", "update", "patch", "delete"}, c.verb)
}

// created tells whether a call has created one of these objects.
func created(prefix string) func(*call) bool {
	return func(c *call) bool {
		return c.verb == "create" && c.step == answered && c.code == http.StatusCreated && strings.HasPrefix(c.object(), prefix)
	}
}

// burst is how long a server refuses what it's asked.
const burst = 8 * time.Second

// refuse has all calls be treated like that for a while.
func refuse(do treatment) func(*cell, *call) {
	return func(c *cell, _ *call) {
		c.proxy.treat = func(*call) treatment { return do }
		c.after(burst, func() { c.proxy.under(nil) })
	}
}

// poison has the network do something from now on.
func poison(kind string, attributes map[string]any, directions ...string) func(*cell, *call) {
	return func(c *cell, _ *call) {
		if err := c.proxy.poison(kind, attributes, directions...); err != nil {
			c.t.Error(err)
		}
	}
}

var vanish = poison("timeout", map[string]any{"timeout": 0}, "upstream", "downstream")

var faults = []*fault{
	{
		name: "none", title: "no fault", moments: []string{""}, sample: [2]string{"", "upgrade"},
	},
	{
		name: "cut", title: "all connections are cut once", moments: everyMoment, sample: [2]string{atJobs, "install"}, lasts: 10 * time.Second,
		inject: func(c *cell, _ *call) {
			if err := c.proxy.cutAll(); err != nil {
				c.t.Error(err)
			}
		},
	},
	{
		name: "partition", title: "no packet arrives for 30 s", moments: everyMoment, sample: [2]string{atRecord, "upgrade"}, lasts: 75 * time.Second,
		inject: func(c *cell, at *call) {
			vanish(c, at)
			c.after(30*time.Second, c.proxy.heal)
		},
	},
	{
		name: "gone-for-good", title: "no packet arrives any more", moments: []string{atSetup, atJobs, atResources}, sample: [2]string{atJobs, "upgrade"},
		inject: vanish, timeout: "20s", fails: true,
	},
	{
		name: "latency", title: "answers take 1 to 2 s more, from then on", moments: []string{atSetup, atResources}, sample: [2]string{atSetup, "rollback"}, lasts: 15 * time.Second,
		inject: poison("latency", map[string]any{"latency": 1500, "jitter": 500}, "downstream"),
	},
	{
		name: "bandwidth", title: "20 KB/s each way, from then on", moments: []string{atSetup, atResources}, sample: [2]string{atSetup, "install"}, lasts: 15 * time.Second,
		inject: poison("bandwidth", map[string]any{"rate": 20}, "upstream", "downstream"),
	},
	{
		name: "lost-answer", title: "the server acts, and the connection is cut before it answers",
		moments: []string{atStart, atSetup, atDeletion, atRecord, atRenewal, atClean, atResources, atPurge}, sample: [2]string{atSetup, "upgrade"}, lasts: 10 * time.Second,
		inject: func(_ *cell, at *call) { at.lose = true },
	},
	{
		name: "lost-job", title: "the same for the creation of a Job", moments: []string{atFirstJob, atLastJob}, sample: [2]string{atLastJob, "test"}, lasts: 10 * time.Second,
		inject: func(_ *cell, at *call) { at.lose = true },
	},
	{
		name: "429", title: "429 with Retry-After, for 8 s", moments: everyMoment, sample: [2]string{atDeletion, "upgrade"}, lasts: 15 * time.Second,
		inject: refuse(treatment{code: http.StatusTooManyRequests, reason: metav1.StatusReasonTooManyRequests, after: "1"}),
	},
	{
		name: "500", title: "500 for 8 s; the server hasn't acted", moments: everyMoment, sample: [2]string{atSetup, "install"}, lasts: 15 * time.Second,
		inject: refuse(treatment{code: http.StatusInternalServerError, reason: metav1.StatusReasonInternalError}),
	},
	{
		name: "500-acted", title: "500 for 8 s; the server has acted", moments: everyMoment, sample: [2]string{atResources, "upgrade"}, lasts: 15 * time.Second,
		inject: refuse(treatment{code: http.StatusInternalServerError, reason: metav1.StatusReasonInternalError, acted: true}),
	},
	{
		name: "503", title: "503 of a load balancer for 8 s; the server hasn't acted", moments: []string{atStart, atJobs, atRecord, atResources}, sample: [2]string{atRecord, "uninstall"}, lasts: 15 * time.Second,
		inject: refuse(treatment{code: http.StatusServiceUnavailable, plain: "no healthy upstream"}),
	},
	{
		name: "504-acted", title: "504 of a load balancer for 8 s; the server has acted", moments: []string{atSetup, atDeletion, atRecord, atRenewal, atResources}, sample: [2]string{atSetup, "rollback"}, lasts: 15 * time.Second,
		inject: refuse(treatment{code: http.StatusGatewayTimeout, plain: "upstream request timeout", acted: true}),
	},
	{
		name: "410", title: "410 Gone on a watch, and once more", moments: []string{atJobs}, sample: [2]string{atJobs, "rollback"}, lasts: 10 * time.Second,
		inject: goneTwice,
	},
	{
		name: "410-compacted", title: "410 Gone on a watch, since etcd was compacted", moments: []string{atJobs}, sample: [2]string{atJobs, "install"}, lasts: 10 * time.Second,
		inject: compact,
		check: func(c *cell) {
			if c.proxy.count(func(c *call) bool { return slices.Contains(c.notes, goneByServer) }) == 0 {
				c.problem("the server has never said 410 Gone")
			}
		},
	},
	{
		name: "silence", title: "watches stay open and silent", moments: []string{atJobs}, sample: [2]string{atJobs, "uninstall"}, lasts: 110 * time.Second,
		inject: func(c *cell, _ *call) { c.proxy.silence() },
	},
}

const (
	atFirstJob = "at the first Job of a weight"
	atLastJob  = "at the last Job of a weight"
)

func init() {
	nth := func(n int) moment {
		return func(p *proxy, c *call) bool {
			return c.step == asked && c.verb == "create" && strings.HasPrefix(c.object(), "jobs/pre-5-") &&
				p.count(func(c *call) bool { return c.verb == "create" && strings.HasPrefix(c.object(), "jobs/pre-5-") }) == n
		}
	}
	moments[atFirstJob], moments[atLastJob] = nth(1), nth(3)
}

// goneTwice ends the watches by the event that says so, and refuses the next one.
func goneTwice(c *cell, _ *call) {
	c.proxy.endWatches(`{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}` + "\n")
	refused := false
	c.proxy.treat = func(next *call) treatment {
		if refused || next.verb != "watch" || next.resource != "jobs" || next.step != asked {
			return treatment{}
		}
		refused = true
		return treatment{code: http.StatusGone, reason: metav1.StatusReasonExpired}
	}
}

// compact ends the watches and lets a new one begin once etcd has forgotten what it would have told of.
func compact(c *cell, _ *call) {
	c.proxy.endWatches("")
	for range 2 {
		c.revision()
	}
	if _, err := bed.plane.Compact(c.t.Context()); err != nil {
		c.t.Error(err)
	}
}

// chosen returns the commands that are to meet a fault at a moment in this run.
func (f *fault) chosen(moment string) []command {
	var some []command
	for _, command := range commands {
		if !command.comes(moment) || !*whole && f.sample != [2]string{moment, command.name} {
			continue
		}
		switch moment {
		case atPurge:
			command.more = nil
		case atRenewal:
			command.values = []string{"--set", "first={15s,15s,15s}"} // long enough for one
		}
		some = append(some, command)
	}
	return some
}

// TestFaults runs commands beside each other, each with a network of its own that fails.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, moment := range f.moments {
				for _, command := range f.chosen(moment) {
					t.Run(cellName(moment, command), func(t *testing.T) {
						t.Parallel()
						c := newCell(t, f, command, moment)
						c.proxy.moment, c.proxy.inject = moments[moment], func(at *call) { f.inject(c, at) }
						c.run()
						c.judge()
						c.report()
					})
				}
			}
		})
	}
}

func cellName(moment string, command command) string {
	if moment == "" {
		return command.name
	}
	return command.name + " " + moment
}

// outage is a fault of the control plane, which all cells of a group meet at once.
type outage struct {
	fault
	during func(ctx context.Context, cells []*cell) error
}

var outages = []*outage{
	{
		fault: fault{
			name: "api-server", title: "the API server is killed and started again", moments: everyMoment,
			sample: [2]string{atJobs, "upgrade"}, lasts: 90 * time.Second,
		},
		during: killAPIServer,
	},
	{
		fault: fault{
			name: "etcd", title: "etcd stands still for 20 s", moments: everyMoment,
			sample: [2]string{atRecord, "install"}, lasts: 90 * time.Second,
		},
		during: pauseEtcd,
	},
}

func killAPIServer(ctx context.Context, cells []*cell) error {
	if err := bed.plane.KillAPIServer(); err != nil {
		return err
	}
	// Where nobody listens, connections are refused.
	for _, c := range cells {
		c.proxy.network.Stop()
	}
	wait(ctx, 5*time.Second)
	if err := bed.plane.Restart("kube-apiserver"); err != nil {
		return err
	}
	if err := listening(ctx); err != nil {
		return err
	}
	for _, c := range cells {
		if err := c.proxy.network.Start(); err != nil {
			return err
		}
	}
	return bed.plane.WaitReady(ctx)
}

func pauseEtcd(ctx context.Context, _ []*cell) error {
	if err := bed.plane.Pause("etcd"); err != nil {
		return err
	}
	wait(ctx, 20*time.Second)
	if err := bed.plane.Resume("etcd"); err != nil {
		return err
	}
	return bed.plane.WaitReady(ctx)
}

// wait lets a fault last.
func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// listening returns when somebody listens at the API server's port.
func listening(ctx context.Context) error {
	target, err := url.Parse(bed.plane.Config().Host)
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if connection, err := new(net.Dialer).DialContext(ctx, "tcp", target.Host); err == nil {
			return connection.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the API server to listen: %w", ctx.Err())
		}
	}
}

// TestOutages runs commands beside each other that meet the same failure of the control plane, each held up at its
// moment until all have come there.
func TestOutages(t *testing.T) {
	for _, o := range outages {
		type pair struct {
			moment  string
			command command
		}
		var all []pair
		for _, moment := range o.moments {
			for _, command := range o.chosen(moment) {
				all = append(all, pair{moment, command})
			}
		}
		group := 0
		for some := range slices.Chunk(all, atOnce) {
			group++
			t.Run(fmt.Sprintf("%s/%d", o.name, group), func(t *testing.T) {
				var mu sync.Mutex
				var cells []*cell
				var coming sync.WaitGroup
				coming.Add(len(some))
				begun, over := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(over)
					coming.Wait()
					close(begun)
					mu.Lock()
					defer mu.Unlock()
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
					defer cancel()
					if err := o.during(ctx, cells); err != nil {
						t.Error(err)
					}
				}()
				t.Cleanup(func() { <-over })
				for _, p := range some {
					t.Run(cellName(p.moment, p.command), func(t *testing.T) {
						t.Parallel()
						arrive := sync.OnceFunc(coming.Done)
						t.Cleanup(arrive)
						if p.moment == atJobs {
							p.command.values = []string{"--set", "first={30s,25s,30s}"} // until the others have come
						}
						c := newCell(t, &o.fault, p.command, p.moment)
						mu.Lock()
						cells = append(cells, c)
						mu.Unlock()
						c.proxy.moment = moments[p.moment]
						c.proxy.inject = func(*call) {
							arrive()
							select {
							case <-begun:
							case <-t.Context().Done():
							}
						}
						c.run()
						arrive()
						<-over // who judges asks the API server
						c.judge()
						c.report()
					})
				}
			})
		}
	}
}
