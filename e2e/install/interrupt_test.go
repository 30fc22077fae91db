package install

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterrupted: a signal ends the installation at once, in the middle of a download or of a build, whether it's sent
// to the script alone or by Ctrl-C to all that it has started; nothing is left, and nothing runs on.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"download by curl", "download by wget", "download by busybox wget", "build"} {
		for _, test := range []struct {
			name   string
			signal syscall.Signal
			group  bool
			code   int
		}{
			{"hangup", syscall.SIGHUP, false, 129},
			{"interrupt", syscall.SIGINT, false, 130},
			{"Ctrl-C", syscall.SIGINT, true, 130},
			{"termination", syscall.SIGTERM, false, 143},
		} {
			t.Run(moment+"/"+test.name, func(t *testing.T) {
				inEveryShell(t, func(t *testing.T, s *site) {
					arrived, left := make(chan struct{}), make(chan struct{})
					hang := func(w http.ResponseWriter, r *http.Request) {
						close(arrived)
						<-r.Context().Done()
						close(left)
					}
					p := newPage(t)
					s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
					if moment == "build" {
						server := httptest.NewServer(http.HandlerFunc(hang))
						t.Cleanup(server.Close)
						t.Cleanup(server.CloseClientConnections)
						self, err := os.Executable()
						must(t, err)
						s.program("go", "exec '"+self+"' \"$@\"")
						s.env[roleVariable] = "go"
						s.env["ANNOUNCE"] = server.URL
					} else {
						downloaders[moment[len("download by "):]](s)
						p.publish(t, version, here)
						p.answer(version, asset(version, here), hang)
					}
					s.installOld()

					c := s.command()
					var out bytes.Buffer
					c.Stdout, c.Stderr = &out, &out
					c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
					must(t, c.Start())
					ended := make(chan error, 1)
					go func() { ended <- c.Wait() }()
					t.Cleanup(func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
					select {
					case <-arrived:
					case <-ended:
						t.Fatalf("it ended before: %s", out.String())
					case <-time.After(patience):
						t.Fatal("it never came so far")
					}
					target := c.Process.Pid
					if test.group {
						target = -target
					}
					must(t, syscall.Kill(target, test.signal))
					for what, done := range map[string]<-chan struct{}{"the script": closed(ended), "what it has started": left} {
						select {
						case <-done:
						case <-time.After(patience):
							t.Fatalf("%s goes on after the signal", what)
						}
					}
					if got := c.ProcessState.ExitCode(); got != test.code {
						t.Errorf("the exit code is %d, want %d: %s", got, test.code, out.String())
					}
					if n := strings.Count(out.String(), "helm-parallel-hooks: ended by a signal, so nothing was installed. To try again, run: sh '"); n != 1 {
						t.Errorf("it's said %d times that it was ended by a signal: %s", n, out.String())
					}
					s.wantTidy()
					s.wantBinary(oldBinary)
				})
			})
		}
	}
}

// TestNobodyListens: where the reader of what is said has gone, as "| true" and "| head" do, the installation ends as by
// any signal, unless it's done already.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		lines  int // that are read
		code   int
		binary string
	}{
		{"at once", 0, 141, oldBinary},
		{"in the middle", 1, 141, oldBinary},
		{"at the end", 2, 0, program(version, here)},
	} {
		t.Run(test.name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				p := newPage(t)
				whole := pack(t, contents(version, here, program(version, here)))
				// What is said next is said after the reader has gone.
				gone := make(chan struct{})
				late := func(answer http.HandlerFunc) http.HandlerFunc {
					return func(w http.ResponseWriter, r *http.Request) {
						<-gone
						answer(w, r)
					}
				}
				checksums := serve(sums(map[string][]byte{asset(version, here): whole}))
				p.answer(version, "checksums.txt", [...]http.HandlerFunc{late(checksums), first(status(500), late(checksums)), checksums}[test.lines])
				p.answer(version, asset(version, here), late(serve(whole)))
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
				s.installOld()

				c := s.command()
				reader, writer, err := os.Pipe()
				must(t, err)
				var stderr bytes.Buffer
				c.Stdout, c.Stderr = writer, &stderr
				must(t, c.Start())
				t.Cleanup(func() { _ = c.Process.Kill() })
				must(t, writer.Close())
				lines := bufio.NewReader(reader)
				for range test.lines {
					if _, err := lines.ReadString('\n'); err != nil {
						t.Fatalf("%v: %s", err, &stderr)
					}
				}
				must(t, reader.Close())
				close(gone)
				_ = c.Wait()
				if got := c.ProcessState.ExitCode(); got != test.code {
					t.Errorf("the exit code is %d, want %d: %s", got, test.code, &stderr)
				}
				if got, want := strings.Contains(stderr.String(), "ended by a signal, so nothing was installed"), test.code != 0; got != want {
					t.Errorf("it's said that it was ended by a signal: %v, want %v: %s", got, want, &stderr)
				}
				s.wantTidy()
				s.wantBinary(test.binary)
			})
		})
	}
}

// closed is closed when a value has come.
func closed(values <-chan error) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		<-values
		close(done)
	}()
	return done
}
