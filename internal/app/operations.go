package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"furrow/internal/archive"
	"furrow/internal/history"
)

// operation is one of the commands that go back to what was recorded. It runs in
// the process that owns the data folder. body is what follows the spec: the file of
// an import, else nothing.
type operation func(ctx context.Context, spec []byte, body io.Reader, progress history.Progress) (any, error)

// The operations, as commands and the admin listener name them.
const (
	OpReplay   = "replay"
	OpImport   = "import"
	OpSources  = "sources" // the objects under an s3:// address
	OpBadList  = "bad-list"
	OpBadShow  = "bad-show"
	OpBadRetry = "bad-retry"
	OpForget   = "forget"
)

func (a *App) operations() map[string]operation {
	h := a.history
	return map[string]operation{
		OpReplay:   typed(h.Replay),
		OpBadList:  typed(h.BadList),
		OpBadShow:  typed(h.BadShow),
		OpBadRetry: typed(h.BadRetry),
		OpForget:   typed(a.forget),
		OpImport:   a.runImport,
		OpSources:  a.listSources,
	}
}

// typed makes an operation of a method with a spec and a report.
func typed[S, R any](method func(context.Context, S, history.Progress) (R, error)) operation {
	return func(ctx context.Context, text []byte, _ io.Reader, progress history.Progress) (any, error) {
		spec, err := parseSpec[S](text)
		if err != nil {
			return nil, err
		}
		return method(ctx, spec, progress)
	}
}

func parseSpec[S any](text []byte) (spec S, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil {
		return spec, fmt.Errorf("the operation's parameters cannot be read: %w; use a furrow command of this server's version", err)
	}
	return spec, nil
}

// forget forgets people, after what holds it up: the start, which looks whether the
// stores lack tombstones, or another forgetting.
func (a *App) forget(ctx context.Context, spec history.ForgetSpec, progress history.Progress) (history.ForgetReport, error) {
	tick := time.NewTicker(stepEvery)
	defer tick.Stop()
	for {
		report, err := a.history.Forget(ctx, spec, progress)
		if !errors.Is(err, history.ErrRunning) {
			return report, err
		}
		if progress != nil {
			progress(history.Step{What: "waiting for an earlier forgetting"})
		}
		select {
		case <-ctx.Done():
			return report, err
		case <-tick.C:
		}
	}
}

const s3Scheme = "s3://"

// runImport imports what the caller sends, or an object that the spec names.
func (a *App) runImport(ctx context.Context, text []byte, body io.Reader, progress history.Progress) (any, error) {
	spec, err := parseSpec[history.ImportSpec](text)
	if err != nil {
		return nil, err
	}
	source := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(body), nil }
	if strings.HasPrefix(spec.Name, s3Scheme) {
		source = func(ctx context.Context) (io.ReadCloser, error) {
			content, _, err := archive.OpenS3Object(ctx, a.cfg.Archive.S3, spec.Name)
			return content, err
		}
	}
	return a.history.Import(ctx, spec, source, progress)
}

// Sources asks for the objects under an s3:// address.
type Sources struct {
	URL string `json:"url"`
}

func (a *App) listSources(ctx context.Context, text []byte, _ io.Reader, _ history.Progress) (any, error) {
	spec, err := parseSpec[Sources](text)
	if err != nil {
		return nil, err
	}
	return archive.ListS3Objects(ctx, a.cfg.Archive.S3, spec.URL)
}

// operate runs an operation of this process.
func (a *App) operate(ctx context.Context, name string, spec []byte, body io.Reader, progress history.Progress) (any, error) {
	if a.history == nil {
		return nil, errors.New("this process has no recorder role: run the command against one that records, or with the configuration of one")
	}
	run, ok := a.operations()[name]
	if !ok {
		return nil, fmt.Errorf("there is no operation %q in this version", name)
	}
	return run(ctx, spec, body, progress)
}

// operationLine is a line of the answer: how far the operation is, or its end.
type operationLine struct {
	Step   *history.Step   `json:"step,omitempty"`
	Report json.RawMessage `json:"report,omitempty"`
	Error  string          `json:"error,omitempty"`
}

const (
	operationsPath = "/api/history/"
	maxSpec        = 1 << 20
	stepEvery      = 100 * time.Millisecond
)

// serveOperation runs an operation for a command: a line with the spec comes in,
// what the operation reads after it; lines with its progress go out, and one with
// its report. It ends with the connection, and with the process.
func (a *App) serveOperation(w http.ResponseWriter, r *http.Request) {
	ctx, done, err := a.operating.begin(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer done()
	control := http.NewResponseController(w)
	err = errors.Join(control.EnableFullDuplex(), control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{}))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body := bufio.NewReaderSize(r.Body, 1<<16)
	spec, err := readSpec(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// Only once the body has ended, or while it is read, does the server see that the
	// other side goes away. Most operations have nothing to read.
	_, _ = body.Peek(1)
	w.Header().Set("Content-Type", "application/x-ndjson")
	// What an operation leaves unread of its body must not be taken for a request.
	w.Header().Set("Connection", "close")
	lines := json.NewEncoder(w)
	var last time.Time
	report, err := a.operate(ctx, strings.TrimPrefix(r.URL.Path, operationsPath), spec, body, func(step history.Step) {
		if now := time.Now(); now.Sub(last) >= stepEvery {
			last = now
			_ = lines.Encode(operationLine{Step: &step}) // the context tells when nobody listens
			_ = control.Flush()
		}
	})
	line := operationLine{}
	if err == nil {
		line.Report, err = json.Marshal(report)
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), errStopping) {
			err = errStopping
		}
		line = operationLine{Error: err.Error()}
	}
	_ = lines.Encode(line)
}

func readSpec(body *bufio.Reader) ([]byte, error) {
	var spec []byte
	for {
		part, err := body.ReadSlice('\n')
		if spec = append(spec, part...); len(spec) > maxSpec {
			return nil, fmt.Errorf("the operation's parameters are over %d bytes", maxSpec)
		}
		switch {
		case err == nil:
			return spec, nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return nil, fmt.Errorf("the operation's parameters are missing: %w", err)
		}
	}
}
