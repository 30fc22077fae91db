package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// pageFacts is what a browser says of a page.
type pageFacts struct {
	Title  string
	Hooks  []string                     // the text of each row's head
	Bars   []struct{ From, To float64 } // as parts of their track
	Phases []string
	// Overflow is by how much the page is wider than the window.
	Overflow   float64
	Background string
	Color      string
	Scripts    int
	Captions   int
	Headers    int // rows of column heads that are shown
}

const readPage = `(() => {
	const all = (selector, of) => [...document.querySelectorAll(selector)].map(of);
	const style = getComputedStyle(document.body);
	return {
		title: document.title,
		hooks: all("th.name", e => e.innerText.split("\n")[0]),
		bars: all(".bar", e => {
			const bar = e.getBoundingClientRect(), track = e.parentElement.getBoundingClientRect();
			return {from: (bar.left - track.left) / track.width, to: (bar.right - track.left) / track.width};
		}),
		phases: all("td.phase", e => e.innerText),
		overflow: document.documentElement.scrollWidth - window.innerWidth,
		background: style.backgroundColor,
		color: style.color,
		scripts: document.scripts.length,
		captions: all("table > caption", e => e.textContent.trim()).filter(t => t !== "").length,
		headers: all(".hooks thead", e => e.getBoundingClientRect().height).filter(h => h > 1).length,
	};
})()`

// TestPageInBrowser: the page shows each hook and when it ran in a real browser, light and dark, on a screen and on a
// phone, and asks nothing of the network. SCREENSHOTS names a folder to which pictures of it go.
func TestPageInBrowser(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	if got := s.install("shop", "tiers", 3, "--set", "tiers[0].jobs=5,tiers[1].jobs=2,failing={job-1-01}"); got.code != 1 {
		t.Fatalf("want exit code 1; got: %v", got)
	}
	file := filepath.Join(t.TempDir(), "shop.html")
	if err := os.WriteFile(file, []byte(s.must(s.plugin("timeline", "shop", "-o", "html", "--what-if", "1,4")).stdout), 0o644); err != nil {
		t.Fatal(err)
	}

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	var mu sync.Mutex
	var requests []string
	chromedp.ListenTarget(ctx, func(event any) {
		if sent, ok := event.(*network.EventRequestWillBeSent); ok {
			mu.Lock()
			defer mu.Unlock()
			requests = append(requests, sent.Request.URL)
		}
	})

	for _, test := range []struct {
		name          string
		width, height int64
		scheme        string
	}{
		{"screen-light", 1280, 800, "light"},
		{"screen-dark", 1280, 800, "dark"},
		{"phone-light", 390, 844, "light"},
		{"phone-dark", 320, 640, "dark"},
	} {
		var facts pageFacts
		var picture []byte
		err := chromedp.Run(ctx,
			network.Enable(),
			chromedp.EmulateViewport(test.width, test.height),
			chromedp.ActionFunc(func(ctx context.Context) error {
				return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: test.scheme}}).Do(ctx)
			}),
			chromedp.Navigate("file://"+file),
			chromedp.Evaluate(readPage, &facts),
			chromedp.FullScreenshot(&picture, 100),
		)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if dir := os.Getenv("SCREENSHOTS"); dir != "" {
			if err := os.WriteFile(filepath.Join(dir, test.name+".png"), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(facts.Hooks)
		wantEqual(t, test.name+": hooks", facts.Hooks, []string{
			"Job/job-0-00", "Job/job-0-01", "Job/job-0-02", "Job/job-0-03", "Job/job-0-04", "Job/job-1-00", "Job/job-1-01",
		})
		if got := strings.Join(facts.Phases, " "); strings.Count(got, "Succeeded") != 6 || strings.Count(got, "Failed") != 1 {
			t.Errorf("%s: phases %q", test.name, got)
		}
		// The first three begin at once and are followed by two; the next weight begins after all of them.
		for i, bar := range facts.Bars {
			if bar.From < -0.01 || bar.To > 1.01 || i < 3 && bar.From > 0.1 || i > 4 && bar.From < facts.Bars[3].To-0.02 || bar.To-bar.From < 0.1 {
				t.Errorf("%s: bar %d goes from %.2f to %.2f of its track; all are %v", test.name, i, bar.From, bar.To, facts.Bars)
			}
		}
		if len(facts.Bars) != 7 || facts.Title != "shop, revision 1: hooks" || facts.Overflow > 0 || facts.Scripts != 0 || facts.Captions != 2 {
			t.Errorf("%s: %+v", test.name, facts)
		}
		dark := strings.HasPrefix(facts.Background, "rgb(1")
		if dark != (test.scheme == "dark") || facts.Background == facts.Color {
			t.Errorf("%s: text in %s on %s", test.name, facts.Color, facts.Background)
		}
		if shown := facts.Headers == 1; shown != (test.width > 704) {
			t.Errorf("%s: %d rows of column heads are shown", test.name, facts.Headers)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, url := range requests {
		if url != "file://"+file {
			t.Errorf("the page asks for %s", url)
		}
	}
}
