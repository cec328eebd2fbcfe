package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"furrow/internal/bus/journal"
	"furrow/internal/config"
	"furrow/internal/history"
	"furrow/internal/inspector"
)

// Operator runs operations over a data folder: in the furrow that has it, through
// its admin listener, or in this process when nobody has it.
type Operator struct {
	app   *App   // nil: a running furrow does it
	admin string // its address
	level bool   // the stores and the data folder know the same tombstones
}

// OpenOperator finds out who has the data folder. Close gives it back.
func OpenOperator(cfg config.Config, opts Options) (*Operator, error) {
	opts.Offline = true
	app, err := New(cfg, opts)
	inUse, ok := errors.AsType[*journal.InUse](err)
	if !ok {
		return &Operator{app: app}, err
	}
	// The configured address may be that of a furrow with another data folder.
	if inUse.Note == "" {
		return nil, fmt.Errorf("data folder %s is in use by process %s, which does not listen: a furrow command that has not ended, "+
			"or a furrow that is just starting; run this again when it is done", inUse.Dir, inUse.PID)
	}
	return &Operator{admin: inUse.Note}, nil
}

// Running says where the furrow is that does the work, empty when it is this
// process.
func (o *Operator) Running() string { return o.admin }

// Close ends the work on the data folder.
func (o *Operator) Close() error {
	if o.app == nil {
		return nil
	}
	return o.app.close()
}

// Do runs an operation and reads its report. body is what it reads, nil for most.
func (o *Operator) Do(ctx context.Context, name string, spec any, body io.Reader, report any, progress history.Progress) error {
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if body == nil {
		body = strings.NewReader("")
	}
	var result []byte
	if o.app == nil {
		result, err = o.ask(ctx, name, text, body, progress)
	} else {
		o.reconcile(ctx, name)
		var made any
		watching := newStage(ctx)
		watching.start("disk", o.app.disk.run) // its reserve holds here, too
		defer func() { _ = watching.stop(context.WithoutCancel(ctx)) }()
		if made, err = o.app.operate(ctx, name, text, body, progress); err == nil {
			result, err = json.Marshal(made)
		}
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(result, report)
}

// reconcile does what a start does before anything is stored: a new data folder, or
// a store from a backup, may not know who is forgotten, while another store does.
func (o *Operator) reconcile(ctx context.Context, name string) {
	switch name {
	case OpReplay, OpImport, OpBadRetry:
		if !o.level && o.app.history != nil {
			o.level = o.app.reconcile(ctx)
		}
	}
}

// ask has the running furrow do it.
func (o *Operator) ask(ctx context.Context, name string, spec []byte, body io.Reader, progress history.Progress) ([]byte, error) {
	content := io.MultiReader(bytes.NewReader(append(spec, '\n')), body)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+o.admin+operationsPath+name, content)
	if err != nil {
		return nil, err
	}
	request.Header.Set(inspector.AdminHeader, "1")
	request.Header.Set("Content-Type", "application/octet-stream")
	// What is asked of a furrow may name a person: it goes there and nowhere else.
	direct := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := direct.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the furrow that has the data folder does not answer at its admin listener %s: %w; if it hangs, stop it and run this again", o.admin, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return nil, fmt.Errorf("the furrow at %s refuses: %s: %s", o.admin, response.Status, bytes.TrimSpace(text))
	}
	lines := bufio.NewReader(response.Body)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("the furrow at %s went away before the end; run the same command again, it goes on: %w", o.admin, err)
		}
		var line operationLine
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, fmt.Errorf("the furrow at %s answers %q: %w", o.admin, text, err)
		}
		switch {
		case line.Error != "":
			return nil, errors.New(line.Error)
		case line.Report != nil:
			return line.Report, nil
		case line.Step != nil && progress != nil:
			progress(*line.Step)
		}
	}
}

// reachable is the address of a listener for programs on this machine.
func reachable(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return a.String()
}
