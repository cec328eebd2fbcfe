package store

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"furrow/internal/store/pgtest"
)

// middleman stands between a client and a server and may stop passing on what they
// say, without a word: a network that lost them, a server that hangs.
type middleman struct {
	listener net.Listener
	upstream string
	running  sync.WaitGroup

	mu    sync.Mutex
	gate  chan struct{} // of connections to come; closed while they are passed on
	links []*link
}

type link struct {
	gate           chan struct{}
	client, server net.Conn
}

// between returns the middleman and the URL that leads through it.
func between(tb testing.TB, address string) (*middleman, string) {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatal(err)
	}
	m := &middleman{upstream: u.Host, gate: make(chan struct{})}
	close(m.gate)
	if m.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil { //nolint:noctx // ends with the test
		tb.Fatal(err)
	}
	m.running.Go(m.accept)
	tb.Cleanup(func() {
		m.listener.Close()
		m.speak()
		for _, l := range m.links {
			l.client.Close()
			l.server.Close()
		}
		m.running.Wait()
	})
	u.Host = m.listener.Addr().String()
	return m, u.String()
}

func (m *middleman) accept() {
	for {
		client, err := m.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", m.upstream) //nolint:noctx // ends with the test
		if err != nil {
			client.Close()
			continue
		}
		m.mu.Lock()
		l := &link{gate: m.gate, client: client, server: server}
		m.links = append(m.links, l)
		m.mu.Unlock()
		m.running.Go(func() { m.pass(l, client, server) })
		m.running.Go(func() { m.pass(l, server, client) })
	}
}

func (m *middleman) pass(l *link, from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		m.mu.Lock()
		gate := l.gate
		m.mu.Unlock()
		<-gate
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// fallSilent passes nothing on any more.
func (m *middleman) fallSilent() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate = make(chan struct{})
	for _, l := range m.links {
		l.gate = m.gate
	}
}

// failOver passes new connections on. The old ones stay silent.
func (m *middleman) failOver() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate = make(chan struct{})
	close(m.gate)
}

// speak passes on whatever there is.
func (m *middleman) speak() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		select {
		case <-l.gate:
		default:
			close(l.gate)
		}
	}
}

func (m *middleman) connections() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.links)
}

// TestServerThatHangs: every call that writes fails after writeTimeout, be the
// silence at connecting or later, and whoever
// answers a new connection is found, whatever becomes of the old ones.
func TestServerThatHangs(t *testing.T) {
	t.Parallel()
	m, address := between(t, pgtest.Shared(t).Database(t))
	cfg := Default()
	cfg.WriteTimeout, cfg.ReadTimeout = time.Second, time.Second
	p := openPostgresAt(t, address, cfg)
	put(t, p, samples(0, 10, noon), badRows([]byte("x"), 1, noon)...)
	calls := map[string]func(context.Context) error{
		"Insert":    func(ctx context.Context) error { _, err := p.Insert(ctx, samples(0, 20, noon), nil); return err },
		"DeleteBad": func(ctx context.Context) error { _, err := p.DeleteBad(ctx, []string{"x"}); return err },
		"Trim":      func(ctx context.Context) error { _, err := p.Trim(ctx, noon); return err },
		"Buried":    func(ctx context.Context) error { _, err := p.Buried(ctx); return err },
		"Status":    func(ctx context.Context) error { _, err := p.Status(ctx); return err },
		"Forget": func(ctx context.Context) error {
			_, err := p.Forget(ctx, Forgetting{Identifiers: []string{"x"}, Until: noon})
			return err
		},
	}
	m.fallSilent()
	before := m.connections()
	for range 4 { // more than there are connections
		var wg sync.WaitGroup
		for name, call := range calls {
			wg.Go(func() {
				start := time.Now()
				err := call(t.Context())
				took := time.Since(start)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Timeout") {
					t.Errorf("%s: %v", name, err)
				}
				if limit := cfg.WriteTimeout + 2*pgPatience + 2*time.Second; took > limit {
					t.Errorf("%s took %s", name, took)
				}
			})
		}
		wg.Wait()
	}
	if m.connections() == before {
		t.Error("nobody tried to connect again")
	}
	m.failOver()
	start := time.Now()
	if failed := persist(t, p, samples(0, 20, noon), nil); failed > 3 || time.Since(start) > 8*time.Second {
		t.Errorf("%d more inserts failed, for %s", failed, time.Since(start))
	}
	wantConsistent(t, p, 20, 1)
	start = time.Now()
	if err := p.Close(); err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v; Close waited %s for connections that are lost", err, time.Since(start))
	}
}

// TestClientThatVanishes: the server ends the transaction of a client that it hears
// no more of, so that the next one gets the ids.
func TestClientThatVanishes(t *testing.T) {
	t.Parallel()
	address := pgtest.Shared(t).Database(t)
	cfg := Default()
	cfg.WriteTimeout = time.Second
	p := openPostgresAt(t, address, cfg)
	put(t, p, samples(0, 1, noon))
	vanished := openPostgresAt(t, address, cfg)
	c, err := vanished.acquire(t.Context(), vanished.write)
	if err != nil {
		t.Fatal(err)
	}
	defer c.release()
	row := sample(1, noon)
	id, day, millis, err := place(row.Event)
	if err != nil {
		t.Fatal(err)
	}
	if err := claimIDs(t.Context(), c, []pgItem{{id: id, day: day, millis: millis, hash: contentHash(row.Event)}}); err != nil {
		t.Fatal(err)
	}
	if failed := persist(t, p, []Row{row}, nil); failed > 20 {
		t.Errorf("%d inserts failed", failed)
	}
	for name, want := range map[string]string{"tcp_keepalives_idle": "15", "tcp_user_timeout": "30000", "synchronous_commit": "on"} {
		if got := query[string](t, p, "SHOW "+name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
