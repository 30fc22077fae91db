package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/ports"
)

// proxy is between one command and the API server. What the command connects to is network, which passes bytes on and
// can lose, delay and cut them; behind it is a server that knows requests, so that faults meet chosen ones.
type proxy struct {
	network *toxiproxy.Proxy
	server  *httptest.Server
	reverse *httputil.ReverseProxy
	begin   time.Time

	mu      sync.Mutex // held while a fault is injected, so that nothing passes meanwhile
	calls   []*call
	streams map[*stream]struct{}
	// moment is asked at each step of each call; once it says yes, inject is called, and never again.
	moment moment
	inject func(*call)
	met    *call // at which inject was called
	// treat says what is done to a call; nil: it's passed on.
	treat func(*call) treatment
}

// call is a request of the command.
type call struct {
	verb, resource, subresource, name string
	begun, ended                      time.Duration // since the proxy was made
	step                              step
	code                              int
	lose                              bool // its answer
	notes                             []string
}

// goneByServer is noted of a watch to which the server itself has said 410 Gone.
const goneByServer = "410 Gone by the server"

func (c *call) object() string { return c.resource + "/" + c.name }

func (c *call) String() string {
	object := c.object()
	if c.subresource != "" {
		object += "/" + c.subresource
	}
	return fmt.Sprintf("%7.3f %7.3f %s %s: %d %s", c.begun.Seconds(), c.ended.Seconds(), c.verb, object, c.code, strings.Join(c.notes, ", "))
}

// step is how far a call has come.
type step int

const (
	asked    step = iota // the server hasn't seen it
	answered             // the server has answered, the command doesn't know
	streamed             // the server has sent an event of a watch, the command doesn't know
)

// treatment is what is done to a call.
type treatment struct {
	code   int    // answered in the place of the server; 0: the server answers
	acted  bool   // whether the server gets the call all the same
	after  string // Retry-After
	reason metav1.StatusReason
	plain  string // the body, if it isn't one of Kubernetes
}

var requests = apirequest.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}

// newProxy returns a proxy that passes everything on.
func newProxy(config *rest.Config) (*proxy, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, err
	}
	tls, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	p := &proxy{streams: map[*stream]struct{}{}, begin: time.Now()}
	silent := log.New(io.Discard, "", 0)
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      &http.Transport{TLSClientConfig: tls, ForceAttemptHTTP2: true, DisableCompression: true},
		FlushInterval:  -1,
		ErrorLog:       silent,
		ModifyResponse: p.modify,
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			p.note(callOf(r), "no answer: "+err.Error())
			cut(r)
		},
	}
	p.server = httptest.NewUnstartedServer(p)
	p.server.EnableHTTP2 = true
	p.server.Config.ErrorLog = silent
	p.server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	p.server.StartTLS()
	free, err := ports.Free(1)
	if err != nil {
		p.server.Close()
		return nil, err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p.network = toxiproxy.NewProxy(server, "network", fmt.Sprintf("127.0.0.1:%d", free[0]), p.server.Listener.Addr().String())
	if err := p.network.Start(); err != nil {
		p.server.Close()
		return nil, err
	}
	return p, nil
}

func (p *proxy) close() {
	p.network.Stop()
	p.server.CloseClientConnections()
	p.server.Close()
}

// writeKubeconfig writes a kubeconfig of somebody who trusts the proxy, which has the credentials.
func (p *proxy) writeKubeconfig(path string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["proxy"] = &clientcmdapi.Cluster{
		Server:                   "https://" + p.network.Listen,
		CertificateAuthorityData: pemOf(p.server.Certificate().Raw),
	}
	config.AuthInfos["nobody"] = &clientcmdapi.AuthInfo{}
	config.Contexts["proxy"] = &clientcmdapi.Context{Cluster: "proxy", AuthInfo: "nobody"}
	config.CurrentContext = "proxy"
	return clientcmd.WriteToFile(*config, path)
}

type (
	connKey struct{}
	callKey struct{}
)

func callOf(r *http.Request) *call { return r.Context().Value(callKey{}).(*call) }

// cut ends the connection on which a request came, and with it all others on it.
func cut(r *http.Request) {
	_ = r.Context().Value(connKey{}).(net.Conn).Close() // it may have gone
	panic(http.ErrAbortHandler)
}

// ServeHTTP passes a request on, unless a fault says otherwise.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := readCall(r)
	if err != nil && r.Context().Err() != nil {
		cut(r) // the network was cut while the command sent it
	}
	if err != nil {
		http.Error(w, "the proxy can't read this: "+err.Error(), http.StatusBadRequest)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	c.begun = time.Since(p.begin)
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.ended = time.Since(p.begin)
	}()
	do, lose := p.pass(c, asked)
	if do.code != 0 && (!do.acted || c.verb == "watch") {
		p.note(c, fmt.Sprintf("answered by %d unheard", do.code))
		do.write(w)
		return
	}
	if do.code == 0 && !lose {
		p.reverse.ServeHTTP(w, r)
		return
	}
	// What the server is to do it does, whatever becomes of the connection.
	answer := httptest.NewRecorder()
	p.reverse.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
	if lose {
		p.note(c, "answer lost")
		cut(r)
	}
	p.note(c, fmt.Sprintf("answered by %d instead", do.code))
	do.write(w)
}

// pass notes a step of a call, and injects the fault if this is the moment.
func (p *proxy) pass(c *call, s step) (do treatment, lose bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.step = s
	if s == asked {
		p.calls = append(p.calls, c)
	}
	if p.met == nil && p.moment != nil && p.moment(p, c) {
		p.met = c
		c.notes = append(c.notes, "meets the fault")
		p.inject(c)
	}
	if p.treat != nil {
		do = p.treat(c)
	}
	return do, c.lose
}

// note says something of a call in the log.
func (p *proxy) note(c *call, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.notes = append(c.notes, text)
}

// count returns how many calls there are that are as wanted. The lock must be held.
func (p *proxy) count(wanted func(*call) bool) int {
	n := 0
	for _, c := range p.calls {
		if wanted(c) {
			n++
		}
	}
	return n
}

// under sets what is done to calls from now on.
func (p *proxy) under(treat func(*call) treatment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.treat = treat
}

func readCall(r *http.Request) (*call, error) {
	info, err := requests.NewRequestInfo(r)
	if err != nil {
		return nil, err
	}
	c := &call{verb: info.Verb, resource: info.Resource, subresource: info.Subresource, name: info.Name}
	if !info.IsResourceRequest {
		c.resource = r.URL.Path
	}
	if info.Verb != "create" {
		return c, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if strings.HasPrefix(r.Header.Get("Content-Type"), runtime.ContentTypeProtobuf) {
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			return nil, err
		}
		c.name = object.(metav1.Object).GetName()
		return c, nil
	}
	var object metav1.PartialObjectMetadata
	err = json.Unmarshal(body, &object)
	c.name = object.Name
	return c, err
}

// modify sees the server's answers.
func (p *proxy) modify(response *http.Response) error {
	c := callOf(response.Request)
	p.mu.Lock()
	c.code = response.StatusCode
	p.mu.Unlock()
	if c.verb != "watch" || response.StatusCode != http.StatusOK {
		p.pass(c, answered)
		return nil
	}
	s := &stream{ReadCloser: response.Body, proxy: p, call: c, done: response.Request.Context().Done(), last: make(chan []byte, 1)}
	response.Body = s
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[s] = struct{}{}
	return nil
}

func (t treatment) write(w http.ResponseWriter) {
	if t.after != "" {
		w.Header().Set("Retry-After", t.after)
	}
	if t.plain != "" {
		http.Error(w, t.plain, t.code)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(t.code)
	_ = json.NewEncoder(w).Encode(metav1.Status{ // who asked may have gone
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(t.code), Reason: t.reason, Message: "injected: " + http.StatusText(t.code),
	})
}

// stream is the answer to a watch.
type stream struct {
	io.ReadCloser
	proxy  *proxy
	call   *call
	done   <-chan struct{}
	silent bool        // guarded by proxy.mu
	last   chan []byte // what comes at last, once that is decided
}

// Read reads what the server sends, unless the stream was told to be silent or to end.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	p := s.proxy
	if err != nil {
		p.mu.Lock()
		delete(p.streams, s)
		p.mu.Unlock()
		select {
		case last := <-s.last:
			return copy(b, last), io.EOF
		default:
			return n, err
		}
	}
	if bytes.Contains(b[:n], []byte(`"code":410`)) {
		p.note(s.call, goneByServer)
	}
	p.pass(s.call, streamed)
	p.mu.Lock()
	silent := s.silent
	p.mu.Unlock()
	if silent {
		<-s.done
		return 0, errors.New("silent to its end")
	}
	select {
	case last := <-s.last:
		return copy(b, last), io.EOF
	default:
		return n, nil
	}
}

// silence has the watches that are open send nothing any more, without an end. The lock must be held.
func (p *proxy) silence() {
	for s := range p.streams {
		s.silent = true
		s.call.notes = append(s.call.notes, "silenced")
	}
}

// endWatches ends the watches that are open, after a last event for those that speak JSON. The lock must be held.
func (p *proxy) endWatches(last string) {
	for s := range p.streams {
		event := []byte(last)
		if s.call.resource == "pods" {
			event = nil
		}
		s.last <- event
		s.call.notes = append(s.call.notes, "ended")
		delete(p.streams, s)
		_ = s.ReadCloser.Close() // wakes who reads
	}
}

// toxic is something that the network does to what is sent in one direction.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Toxicity   float32        `json:"toxicity"`
	Attributes map[string]any `json:"attributes"`
}

// poison has the network do something in both directions, or in the one that is named.
func (p *proxy) poison(kind string, attributes map[string]any, directions ...string) error {
	for _, direction := range directions {
		text, err := json.Marshal(toxic{Name: kind + " " + direction, Type: kind, Stream: direction, Toxicity: 1, Attributes: attributes})
		if err != nil {
			return err
		}
		if _, err := p.network.Toxics.AddToxicJson(bytes.NewReader(text)); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// heal undoes poison. What was lost stays lost: connections from before end.
func (p *proxy) heal() { p.network.Toxics.ResetToxics(context.Background()) }

// cutAll cuts all connections; new ones can be made at once.
func (p *proxy) cutAll() error {
	p.network.Stop()
	return p.network.Start()
}

// log returns what has passed.
func (p *proxy) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, c := range p.calls {
		fmt.Fprintln(&b, c)
	}
	return b.String()
}
