package apimodel

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// watch begins a watch, or refuses it.
func (m *Model) watch(ctx context.Context, r *Request) (answer, io.ReadCloser) {
	if m.config.ForbidWatch {
		return failure(http.StatusForbidden, "Forbidden", 0), nil
	}
	draw := m.rand("watch", r.what(), r.Nth)
	now := time.Now()
	s := &stream{
		model: m, ctx: ctx, request: r, draw: draw, closed: make(chan struct{}),
		bookmarks: r.selector.Get("allowWatchBookmarks") == "true", bookmark: now.Add(Between(draw, 30*time.Second, time.Minute)),
	}
	since, err := strconv.ParseInt(r.selector.Get("resourceVersion"), 10, 64)
	switch {
	case err != nil || since == 0: // from the present state on
		for _, o := range m.selected(r) {
			s.pending = append(s.pending, line("ADDED", encode(o.content))...)
		}
		s.version = m.version
	case since < m.compacted:
		for _, life := range m.lives {
			// The client can't be told what became of them.
			if life.Failed && life.Resource == r.Resource && life.endedAt > since && life.endedAt <= m.compacted {
				life.Unseen = true
			}
		}
		gone := failure(http.StatusGone, "Expired", 0)
		if draw.IntN(2) == 0 {
			return gone, nil
		}
		s.pending, s.err = line("ERROR", gone.body), io.EOF
		return answer{code: http.StatusOK}, s
	default:
		s.version = since
	}

	// The server ends each watch in good order some day.
	lasts := Between(draw, 30*time.Minute, time.Hour)
	if seconds, _ := strconv.Atoi(r.selector.Get("timeoutSeconds")); seconds > 0 {
		lasts = time.Duration(seconds) * time.Second
	}
	s.ends, s.endsBy = now.Add(lasts), io.EOF
	fault := m.config.Faults.draw(draw, now.Sub(m.begun), m.config.Faults.WatchRate, WatchFaults)
	at := now.Add(Between(draw, 0, 40*time.Second))
	r.Cut = fault
	switch fault {
	case WatchClosed:
		s.ends = at
	case WatchReset:
		s.ends, s.endsBy = at, pick(draw, cut)
	case WatchCut:
		s.ends, s.endsBy, s.within = at, io.ErrUnexpectedEOF, true
	case WatchPaused:
		s.silent, s.until = at, at.Add(Between(draw, time.Second, time.Minute))
	case WatchDead:
		s.silent, s.until = at, at.Add(deadAfter)
		s.ends, s.endsBy = s.until, errDead
	case WatchSilent:
		s.silent, s.until = at, s.ends
	}
	if fault != None {
		m.note("%s: will meet a fault %v from now: %s", r, at.Sub(now), string(fault))
	}
	for _, outage := range m.config.Faults.Outages {
		if from := m.begun.Add(outage.From); from.After(now) && from.Before(s.ends) {
			s.ends, s.endsBy, s.within = from, errReset, false
		}
	}
	return answer{code: http.StatusOK}, s
}

func line(kind string, object []byte) []byte {
	return fmt.Appendf(nil, `{"type":%q,"object":%s}`+"\n", kind, object)
}

// stream is a watch as its client reads it. It has a single reader; Close may be called
// beside that.
type stream struct {
	model   *Model
	ctx     context.Context
	request *Request
	draw    *rand.Rand
	close   sync.Once
	closed  chan struct{}

	version int64     // what was told already
	due     time.Time // when the last event came, which none overtakes
	pending []byte    // what was told and not read yet
	err     error     // what follows that

	bookmarks     bool
	bookmark      time.Time // when the next is due
	silent, until time.Time // between these nothing comes
	ends          time.Time
	endsBy        error
	within        bool // it ends within an event
}

// Read implements [io.Reader].
func (s *stream) Read(p []byte) (int, error) {
	for {
		select {
		case <-s.closed:
			return 0, io.ErrClosedPipe
		case <-s.ctx.Done():
			return 0, s.ctx.Err()
		default:
		}
		if len(s.pending) > 0 {
			n := copy(p, s.pending)
			s.pending = s.pending[n:]
			return n, nil
		}
		if s.err != nil {
			return 0, s.err
		}
		changed, next := s.next()
		if len(s.pending) > 0 || s.err != nil {
			continue
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-changed:
		case <-s.closed:
		case <-s.ctx.Done():
		}
		timer.Stop()
	}
}

// next puts what there is to tell now into pending, and returns when there may be more:
// a channel that's closed by then, and a time.
func (s *stream) next() (<-chan struct{}, time.Time) {
	m, now := s.model, time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !now.Before(s.ends) {
		s.err = s.endsBy
		if s.within {
			s.pending = line("MODIFIED", []byte(`{"kind":"Job","metadata":{}}`))[:20]
		}
		return m.changed, now
	}
	if !s.silent.IsZero() && !now.Before(s.silent) && now.Before(s.until) {
		return m.changed, s.until
	}
	next := s.ends
	if s.silent.After(now) && s.silent.Before(next) {
		next = s.silent
	}
	if s.bookmarks && !now.Before(s.bookmark) {
		s.bookmark = now.Add(time.Minute)
		if !s.waits() {
			kind := kindOf[s.request.Resource]
			s.version = m.version
			s.pending = line("BOOKMARK", fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d"}}`, kind.GroupVersion(), kind.Kind, s.version))
			return m.changed, now
		}
	}
	if s.bookmarks && s.bookmark.Before(next) {
		next = s.bookmark
	}
	if e := s.first(); e != nil {
		// Drawn by the event, so that it's the same each time that this is asked.
		lag := Between(m.rand("lag", s.request.what(), s.request.Nth, e.version), 0, m.config.Lag)
		due := e.at.Add(lag)
		if due.Before(s.due) {
			due = s.due
		}
		if !now.Before(due) {
			s.due, s.version = due, e.version
			s.pending = line(e.kind, e.object)
			return m.changed, now
		}
		if due.Before(next) {
			next = due
		}
	}
	return m.changed, next
}

// first returns the first event that was not told yet; nil if there is none.
func (s *stream) first() *event {
	// History has every version from the first on.
	from := 0
	if len(s.model.history) > 0 {
		from = max(0, int(s.version-s.model.history[0].version)+1)
	}
	for i := from; i < len(s.model.history); i++ {
		e := &s.model.history[i]
		if s.request.selects(e.key, e.labels) {
			return e
		}
		s.version = e.version
	}
	return nil
}

func (s *stream) waits() bool { return s.first() != nil }

// Close implements [io.Closer].
func (s *stream) Close() error {
	s.close.Do(func() { close(s.closed) })
	return nil
}
