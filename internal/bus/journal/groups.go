package journal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"furrow/internal/bus"
)

// groupsDir holds one file for each group that is known, NAME.pos.
const (
	groupsDir    = "groups"
	groupSuffix  = ".pos"
	groupFormat  = "furrow-position 1 "
	saveEvery    = 200 * time.Millisecond
	expiresEvery = 5 // in saves
)

var groupName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// group is what the journal remembers of a consumer group. Guarded by
// Journal.mu.
type group struct {
	name       string
	registered bool
	acked      uint64 // zero: nothing yet
	dirty      bool   // acked is newer than the file
	sub        *subscription
}

// holds is the last sequence number that the group does not need any more. A
// subscription that was rewound needs what it is reading again.
func (g *group) holds() uint64 {
	if g.sub != nil {
		return min(g.acked, g.sub.floor)
	}
	return g.acked
}

// loadGroups reads the positions and adds the registered groups that are new.
func (j *Journal) loadGroups(registered []string) error {
	dir := filepath.Join(j.dir, groupsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), groupSuffix)
		if !ok || !groupName.MatchString(name) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("journal: position of group %s: %w", name, err)
		}
		g := &group{name: name}
		if g.acked, err = decodePosition(string(b)); err != nil {
			// From the start is right under at-least-once; guessing ahead is not.
			j.log.Error("journal: position lost, the group starts at the earliest record",
				slog.String("group", name), slog.Any("error", err))
		}
		j.groups[name] = g
	}
	for _, name := range registered {
		if !groupName.MatchString(name) {
			return fmt.Errorf("journal: %q cannot name a group; use letters, digits, '.', '_' and '-'", name)
		}
		j.group(name).registered = true
	}
	return nil
}

// group returns a group and makes it if need be. Callers hold mu.
func (j *Journal) group(name string) *group {
	g := j.groups[name]
	if g == nil {
		g = &group{name: name, dirty: true}
		j.groups[name] = g
	}
	return g
}

func encodePosition(seq uint64) []byte {
	line := groupFormat + string(formatPosition(seq))
	return fmt.Appendf(nil, "%s %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}

func decodePosition(s string) (uint64, error) {
	if len(s) == len(groupFormat)+digits+10 {
		seq, err := parsePosition(bus.Position(s[len(groupFormat):][:digits]))
		if err == nil && string(encodePosition(seq)) == s {
			return seq, nil
		}
	}
	return 0, fmt.Errorf("%q is not a position file", s[:min(len(s), 80)])
}

// keeper writes positions and deletes what retention allows.
func (j *Journal) keeper() {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	var failed bool
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-j.closing:
			return
		}
		err := j.savePositions()
		if err != nil && !failed {
			j.log.Warn("journal: positions not written, trying again", slog.Any("error", err))
		}
		failed = err != nil
		if n%expiresEvery == 0 {
			j.expire(j.hooks.now())
			j.age(j.hooks.now())
		}
	}
}

// savePositions writes the positions that changed.
func (j *Journal) savePositions() error {
	j.saving.Lock()
	defer j.saving.Unlock()
	type change struct {
		name  string
		acked uint64
	}
	var changes []change
	j.mu.Lock()
	for _, g := range j.groups {
		if g.dirty {
			g.dirty = false
			changes = append(changes, change{g.name, g.acked})
		}
	}
	j.mu.Unlock()
	var errs []error
	for _, c := range changes {
		err := writeFile(j.groupFile(c.name), encodePosition(c.acked))
		if err == nil {
			continue
		}
		errs = append(errs, fmt.Errorf("journal: position of group %s: %w", c.name, err))
		j.mu.Lock()
		if g := j.groups[c.name]; g != nil {
			g.dirty = true
		}
		j.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (j *Journal) groupFile(name string) string {
	return filepath.Join(j.dir, groupsDir, name+groupSuffix)
}

// Release forgets a group that is not registered, so that segments no longer
// wait for it. A registered, subscribed or unknown group is an error.
func (j *Journal) Release(name string) error {
	j.saving.Lock()
	defer j.saving.Unlock()
	j.mu.Lock()
	g := j.groups[name]
	var err error
	switch {
	case g == nil:
		err = fmt.Errorf("journal: there is no group %q", name)
	case g.registered:
		err = fmt.Errorf("journal: group %q belongs to a configured role; take the role out of the configuration first", name)
	case g.sub != nil:
		err = fmt.Errorf("journal: group %q has a subscription", name)
	default:
		delete(j.groups, name)
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	if err := removeFile(j.groupFile(name)); err != nil {
		return fmt.Errorf("journal: release group %s: %w", name, err)
	}
	return j.hooks.disk.syncDir(filepath.Join(j.dir, groupsDir))
}
