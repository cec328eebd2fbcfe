package history

import (
	"context"
	"fmt"
	"slices"

	"furrow/internal/event"
	"furrow/internal/store"
)

// Links are the other identifiers on a person's events. One step is followed, never
// two. What more than one person may use is left out unless it is named: a
// domain_userid or network_userid that also has events of a user_id that is neither
// named nor taken, and a user_id that shares a named identifier with another one.
type Links struct {
	Taken []store.Identity `json:"taken"` // go as well where linked identifiers were asked for
	Left  []LeftOut        `json:"left"`
	// The database told only the commonest 100; there may be more.
	Cut bool `json:"cut,omitempty"`
}

// LeftOut is a linked identifier that stays, and why.
type LeftOut struct {
	store.Identity
	Why string `json:"why"`
}

const maxLinked = 100 // as store.Person has it

var fieldUser = event.UserID.Name()

// links finds the identifiers on the events of the named ones.
func (h *History) links(ctx context.Context, named []string) (store.Person, Links, error) {
	links := Links{Taken: []store.Identity{}, Left: []LeftOut{}}
	if h.opts.Database == nil {
		return store.Person{}, links, errNoDatabase
	}
	person, err := h.opts.Database.Person(ctx, named)
	if err != nil {
		return person, links, err
	}
	links.Cut = len(person.Linked) >= maxLinked
	crowd, err := h.crowds(ctx, named, person)
	if err != nil {
		return person, links, err
	}
	ours := slices.Clone(named) // whose devices may go
	for _, link := range person.Linked {
		if link.Field != fieldUser || slices.Contains(named, link.Value) {
			continue
		}
		if n := crowd[link.Value]; n > 1 {
			links.leave(link, fmt.Sprintf("a named identifier was used by %d user_ids; name those you mean", n))
			continue
		}
		links.Taken = append(links.Taken, link)
		ours = append(ours, link.Value)
	}
	for _, link := range person.Linked {
		if link.Field == fieldUser || slices.Contains(named, link.Value) {
			continue
		}
		why, err := h.shared(ctx, link, ours)
		if err != nil {
			return person, links, err
		}
		if why != "" {
			links.leave(link, why)
		} else {
			links.Taken = append(links.Taken, link)
		}
	}
	return person, links, nil
}

func (l *Links) leave(link store.Identity, why string) {
	l.Left = append(l.Left, LeftOut{Identity: link, Why: why})
}

// crowds returns for each linked user_id how many user_ids share a named identifier
// with it, itself included.
func (h *History) crowds(ctx context.Context, named []string, together store.Person) (map[string]int, error) {
	crowd := map[string]int{}
	if !slices.ContainsFunc(together.Linked, func(link store.Identity) bool { return link.Field == fieldUser }) {
		return crowd, nil
	}
	for _, name := range named {
		person := together
		if len(named) > 1 {
			var err error
			if person, err = h.opts.Database.Person(ctx, []string{name}); err != nil {
				return nil, err
			}
		}
		users := userIDs(person)
		for _, user := range users {
			n := len(users)
			if len(person.Linked) >= maxLinked {
				n = max(n, maxLinked) // there may be others
			}
			crowd[user] = max(crowd[user], n)
		}
	}
	return crowd, nil
}

// shared says why an identifier of a device may be somebody else's too.
func (h *History) shared(ctx context.Context, link store.Identity, ours []string) (why string, err error) {
	if link.Value == nobody {
		return "it stands for everyone who is anonymous", nil
	}
	person, err := h.opts.Database.Person(ctx, []string{link.Value})
	if err != nil {
		return "", err
	}
	others := slices.DeleteFunc(userIDs(person), func(user string) bool { return slices.Contains(ours, user) })
	switch {
	case len(others) == 1:
		return "it was also used by another user_id", nil
	case len(others) > 1:
		return fmt.Sprintf("it was also used by %d other user_ids", len(others)), nil
	case len(person.Linked) >= maxLinked:
		return "it comes with too many other identifiers to tell whose it is", nil
	}
	return "", nil
}

func userIDs(person store.Person) []string {
	var users []string
	for _, link := range person.Linked {
		if link.Field == fieldUser {
			users = append(users, link.Value)
		}
	}
	return users
}
