package collector

import "bytes"

// Bounds of the search for a domain user id.
const (
	keySearch = 64 << 10 // bytes of the body
	keyLength = 128      // bytes of the id
)

// recordKey returns the text that keeps one user's events in order. It may use
// space, of 36 bytes.
func (c *Collector) recordKey(x *exchange, address string, space []byte) []byte {
	if c.cfg.Key == KeyUser {
		if id := x.params.duid; id != "" {
			return []byte(id[:min(len(id), keyLength)])
		}
		if id := bodyUser(x.body); id != nil {
			return id
		}
		if x.clientID && x.nuid != "" && x.nuid != zeroID {
			return []byte(x.nuid[:min(len(x.nuid), keyLength)])
		}
		if address != unknownAddress {
			return []byte(address)
		}
	}
	writeID(space, x.buffers.draw())
	return space
}

// bodyUser returns the first domain user id in the body: what stands between
// quotation marks after "duid":. It reads bytes, not JSON: the same user has to
// get the same key, and no more.
func bodyUser(body []byte) []byte {
	body = body[:min(len(body), keySearch)]
	name := []byte(`"duid"`)
	for {
		i := bytes.Index(body, name)
		if i < 0 {
			return nil
		}
		body = body[i+len(name):]
		rest, ok := bytes.CutPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte(":"))
		if !ok {
			continue
		}
		rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"`))
		if !ok {
			continue
		}
		if end := bytes.IndexByte(rest[:min(len(rest), keyLength+1)], '"'); end > 0 {
			return rest[:end]
		}
	}
}
