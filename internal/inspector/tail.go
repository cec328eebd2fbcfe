package inspector

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// Line is one thing that Tail saw: exactly one of its fields is set.
type Line struct {
	Event   *EventSummary
	Bad     *BadSummary
	Skipped int64 // so many entries came faster than they could be shown
	Lost    error // the connection broke; Tail tries again
}

const (
	silence    = 2 * maxHeartbeat // a stream silent for longer is dead
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
	maxLine    = 1 << 20
)

// errRefused ends Tail: the server answered, and asking again would not help.
type errRefused struct{ error }

// Tail calls out for every event and bad row that a running Furrow records, until
// the context ends (nil) or out returns an error (that error). adminURL is the
// admin listener's, for example http://127.0.0.1:8081. When nothing answers at
// first it returns the error; a connection that breaks later is made again, and
// goes on where it broke as far as Furrow still holds the entries.
func Tail(ctx context.Context, adminURL string, filter Filter, out func(Line) error) error {
	base, err := url.Parse(adminURL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return fmt.Errorf("tail: %q is not an admin address such as http://127.0.0.1:8081", adminURL)
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		transport = &http.Transport{}
	}
	transport = transport.Clone()
	defer transport.CloseIdleConnections()
	t := &tail{
		client: &http.Client{Transport: transport},
		url:    base.JoinPath("/api/live").String() + "?" + filter.query(),
		out:    out,
	}
	wait := firstRetry
	for {
		err := t.once(ctx)
		var refused errRefused
		switch {
		case t.stop != nil:
			return t.stop
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused):
			return fmt.Errorf("tail: %s: %w", adminURL, refused.error)
		case !t.met:
			return fmt.Errorf("tail: no Furrow answers at %s (start one with furrow serve): %w", adminURL, err)
		}
		if t.fresh {
			wait, t.fresh = firstRetry, false
		}
		if stop := out(Line{Lost: err}); stop != nil {
			return stop
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRetry)
	}
}

type tail struct {
	client *http.Client
	url    string
	out    func(Line) error
	lastID string
	met    bool  // a stream was open once
	fresh  bool  // a stream was open since the last wait
	stop   error // what out returned
}

// once reads one connection to its end.
func (t *tail) once(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(fmt.Errorf("no sign of life for %s", silence)) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if t.lastID != "" {
		req.Header.Set("Last-Event-ID", t.lastID)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	t.met, t.fresh = true, true
	err = t.read(resp.Body, func() { watchdog.Reset(silence) })
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// refusal words an answer that is not a stream. A server that cannot now is asked
// again.
func refusal(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(body))
	var answer struct{ Error string }
	if json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		text = answer.Error
	}
	err = fmt.Errorf("%s: %s", resp.Status, clean(clip(text, summaryMessage)))
	if resp.StatusCode >= http.StatusInternalServerError {
		return err
	}
	return errRefused{err}
}

func (t *tail) read(body io.Reader, alive func()) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	var kind, id string
	var data []byte
	for lines.Scan() {
		alive()
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			kind = string(value)
		case "id":
			id = string(value)
		case "data":
			data = append(data, value...)
		case "":
			if len(lines.Bytes()) > 0 { // a comment
				continue
			}
			if err := t.deliver(kind, data); err != nil {
				return err
			}
			if id != "" {
				t.lastID = id
			}
			kind, id, data = "", "", data[:0]
		default:
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the stream ended")
}

func (t *tail) deliver(kind string, data []byte) error {
	var line Line
	var err error
	switch kind {
	case "event":
		line.Event = new(EventSummary)
		err = json.Unmarshal(data, line.Event)
	case "bad":
		line.Bad = new(BadSummary)
		err = json.Unmarshal(data, line.Bad)
	case "skipped":
		var s struct{ Count int64 }
		err = json.Unmarshal(data, &s)
		line.Skipped = s.Count
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the live stream: %w", err)
	}
	t.stop = t.out(line)
	return t.stop
}

// FormatLine words a line for a terminal, in the local time zone, without line
// end. What a visitor sent cannot steer the terminal: what does not print is left
// out.
func FormatLine(l Line) string {
	switch {
	case l.Event != nil:
		return formatEvent(l.Event)
	case l.Bad != nil:
		where := "whole record"
		if l.Bad.EventIndex >= 0 {
			where = fmt.Sprintf("event %d", l.Bad.EventIndex)
		}
		return clean(fmt.Sprintf("%s  BAD  %-20s  %s (%s, %s)", clock(l.Bad.Time), l.Bad.Schema, l.Bad.Message, where, l.Bad.ID))
	case l.Lost != nil:
		return clean(fmt.Sprintf("--- connection lost (%v), trying again", l.Lost))
	default:
		return fmt.Sprintf("--- %d not shown: they came faster than they could be read", l.Skipped)
	}
}

func formatEvent(e *EventSummary) string {
	parts := []string{clock(e.Time), fmt.Sprintf("%-16s", e.EventName)}
	add := func(format, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf(format, value))
		}
	}
	add("%s", e.AppID)
	add("%s", e.PageURL)
	add("“%s”", clip(e.PageTitle, 40))
	add("%s", e.Action)
	add("item=%s", e.Item)
	add("user=%s", firstOf(e.UserID, e.DomainUserID, e.NetworkUserID))
	add("session=%s", e.DomainSessionID)
	parts = append(parts, fmt.Sprintf("%d ms", e.LatencyMS), e.ID)
	return clean(strings.Join(parts, "  "))
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func clock(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return t.Local().Format("15:04:05.000")
}

// clean leaves out what does not print: escape sequences and direction marks.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
