package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"furrow/internal/config"
	"furrow/internal/inspector"

	"github.com/google/uuid"
)

// ready says why a role cannot do its work, nil when it can. Without a role it is
// the collector's answer where there is one, else everybody's.
func (a *App) ready(role string) error {
	switch role {
	case config.RoleCollector:
		if a.collector == nil {
			return errors.New("this process has no collector")
		}
		return a.accepting()
	case config.RoleRecorder:
		if a.recorder == nil {
			return errors.New("this process has no recorder")
		}
		return a.recorder.Ready()
	case config.RoleRecommender:
		if a.recommender == nil {
			return errors.New("this process has no recommender")
		}
		return a.recommender.Ready()
	case "":
	default:
		return fmt.Errorf("no role %q", role)
	}
	if a.collector != nil {
		return a.accepting()
	}
	var errs []error
	if a.recorder != nil {
		errs = append(errs, a.recorder.Ready())
	}
	if a.recommender != nil {
		errs = append(errs, a.recommender.Ready())
	}
	return errors.Join(errs...)
}

// health is what the admin listener's /healthz and /readyz say.
func (a *App) health() []inspector.Check {
	var checks []inspector.Check
	for _, role := range []string{config.RoleCollector, config.RoleRecorder, config.RoleRecommender} {
		if !a.cfg.Has(role) {
			continue
		}
		check := inspector.Check{Name: role, Healthy: true, Ready: true}
		if err := a.ready(role); err != nil {
			check.Ready, check.Reason = false, err.Error()
		}
		checks = append(checks, check)
	}
	return checks
}

// adminServer serves the inspector, or the health of a process without one.
func (a *App) adminServer() *http.Server {
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			answer(w, http.StatusOK, "ok\n")
		case "/readyz":
			a.serveReady(w, r)
		default:
			answer(w, http.StatusNotFound, "this process has no inspector role\n")
		}
	})
	if a.inspector != nil {
		handler = a.inspector.Handler()
	}
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: newErrorLog(a.component("admin")),
	}
}

// coverage translates the recommender's view of its input for the inspector.
func (a *App) coverage() inspector.Coverage {
	if a.recommender == nil {
		return inspector.Coverage{}
	}
	c := a.recommender.Coverage()
	out := inspector.Coverage{PageViews: c.PageViews, Interactions: c.Interactions, Share: c.Share}
	for _, p := range c.Unmatched {
		out.Unmatched = append(out.Unmatched, inspector.PathCount{Path: p.Path, Count: p.Count})
	}
	if c.Suggested != "" {
		rule := inspector.Rule{Pattern: c.Suggested}
		for _, p := range c.Preview {
			rule.Matches += p.Count
			rule.Preview = append(rule.Preview, p.Path+" → "+p.Item)
		}
		out.Suggestion = &rule
	}
	return out
}

// sendTest sends a page view through the public listener, as any visitor would.
func (a *App) sendTest(ctx context.Context) (string, error) {
	if a.collector == nil {
		return "", errors.New("this process has no collector")
	}
	id := uuid.NewString()
	query := url.Values{
		"e": {"pv"}, "p": {"web"}, "tv": {"furrow-inspector"}, "aid": {"furrow-test"}, "eid": {id},
		"url": {"http://example.com/product/test-event"}, "page": {"Test event from the inspector"},
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.publicURL()+"/i?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the collector answered %s", response.Status)
	}
	return id, nil
}

// publicURL is how a program on this machine reaches the public listener.
func (a *App) publicURL() string {
	tcp, ok := a.public.Addr().(*net.TCPAddr)
	if !ok {
		return "http://" + a.public.Addr().String()
	}
	if tcp.IP.IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d", tcp.Port)
	}
	return "http://" + tcp.String()
}

// status is the whole process as /status shows it.
func (a *App) status() inspector.Status {
	dir, err := filepath.Abs(a.cfg.DataDir)
	if err != nil {
		dir = a.cfg.DataDir
	}
	s := inspector.Status{
		Version: a.version, Started: a.started, DataDir: dir,
		Listen: a.public.Addr().String(), PublicURL: a.publicURL(), Roles: a.cfg.Roles,
	}
	j := a.journal.Status()
	if a.collector != nil {
		s.Stages = append(s.Stages, a.collectorStage())
	}
	s.Stages = append(s.Stages, journalStage(j, a.journal.Ready()))
	if a.recorder != nil {
		s.Stages = append(s.Stages, a.recorderStages(j)...)
		s.Database, s.Archive = a.storages()
	}
	if a.recommender != nil {
		s.Stages = append(s.Stages, a.recommenderStage(j))
	}
	s.Disk = a.diskStatus(s.Database, s.Archive)
	return s
}

func (a *App) collectorStage() inspector.Stage {
	counts := a.collector.Counts()
	stage := inspector.Stage{Name: "collector", Kind: inspector.KindCollector, Ready: true, Counters: []inspector.Counter{
		{Name: "durable", Value: int64(counts.Durable)}, {Name: "accepted", Value: int64(counts.Accepted)}, //nolint:gosec // counts of requests
	}}
	for reason, n := range counts.Refused {
		stage.Counters = append(stage.Counters, inspector.Counter{Name: "refused: " + strings.ReplaceAll(reason, "_", " "), Value: int64(n)}) //nolint:gosec // as above
	}
	if err := a.accepting(); err != nil {
		stage.Ready, stage.Reason = false, err.Error()
	}
	return stage
}
