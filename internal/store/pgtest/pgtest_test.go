package pgtest_test

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"furrow/internal/store/pgtest"
)

func TestServerKeepsItsDataOverACrash(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgtest.Setting("max_connections", "17"))
	address := s.Database(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	if _, err := s.SQL(name, "CREATE TABLE t AS SELECT 7 AS n"); err != nil {
		t.Fatal(err)
	}
	s.Restart("immediate")
	got, err := s.SQL(name, "SELECT n, current_setting('max_connections') FROM t")
	if err != nil || got != "7|17" {
		t.Errorf("%q, %v", got, err)
	}
	s.Stop()
	if c, err := net.Dial("tcp", s.Addr()); err == nil {
		_ = c.Close()
		t.Error("it listens after Stop")
	}
	s.Restart("fast")
	if other := pgtest.Shared(t).Database(t); other == address {
		t.Errorf("%s twice", other)
	}
}
