package snowplow

import (
	"encoding/binary"
	"errors"
	"fmt"

	"furrow/internal/event"
)

// PayloadSchema is the Iglu URI that every collector payload carries.
const PayloadSchema = "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0"

// Field ids of CollectorPayload as they are on the wire (collector 2.10). The
// published IDL numbers them otherwise and is wrong.
const (
	fieldIPAddress     = 100
	fieldTimestamp     = 200
	fieldEncoding      = 210
	fieldCollector     = 220
	fieldUserAgent     = 300
	fieldRefererURI    = 310
	fieldPath          = 320
	fieldQuerystring   = 330
	fieldBody          = 340
	fieldHeaders       = 350
	fieldContentType   = 360
	fieldHostname      = 400
	fieldNetworkUserID = 410
	fieldSchema        = 31337
)

// Thrift TBinaryProtocol type codes.
const (
	typeStop   = 0
	typeBool   = 2
	typeByte   = 3
	typeDouble = 4
	typeI16    = 6
	typeI32    = 8
	typeI64    = 10
	typeString = 11
	typeStruct = 12
	typeMap    = 13
	typeSet    = 14
	typeList   = 15
)

// AppendPayload appends the payload as a bare Thrift struct in TBinaryProtocol,
// fields in ascending order, and returns the extended buffer.
func AppendPayload(dst []byte, p *event.Payload) []byte {
	dst = appendString(dst, fieldIPAddress, p.IPAddress)
	dst = append(dst, typeI64)
	dst = binary.BigEndian.AppendUint16(dst, fieldTimestamp)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Timestamp)) //nolint:gosec // two's complement on the wire
	dst = appendString(dst, fieldEncoding, p.Encoding)
	dst = appendString(dst, fieldCollector, p.Collector)
	dst = appendOptional(dst, fieldUserAgent, p.UserAgent)
	dst = appendOptional(dst, fieldRefererURI, p.RefererURI)
	dst = appendOptional(dst, fieldPath, p.Path)
	dst = appendOptional(dst, fieldQuerystring, p.Querystring)
	dst = appendOptional(dst, fieldBody, p.Body)
	if p.Headers != nil {
		dst = append(dst, typeList)
		dst = binary.BigEndian.AppendUint16(dst, fieldHeaders)
		dst = append(dst, typeString)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Headers))) //nolint:gosec // bounded by the collector's header limit
		for _, h := range p.Headers {
			dst = appendText(dst, h)
		}
	}
	dst = appendOptional(dst, fieldContentType, p.ContentType)
	dst = appendOptional(dst, fieldHostname, p.Hostname)
	dst = appendOptional(dst, fieldNetworkUserID, p.NetworkUserID)
	dst = appendString(dst, fieldSchema, PayloadSchema)
	return append(dst, typeStop)
}

func appendOptional(dst []byte, id uint16, s event.Optional) []byte {
	if !s.Set {
		return dst
	}
	return appendString(dst, id, s.Value)
}

func appendString(dst []byte, id uint16, s string) []byte {
	dst = append(dst, typeString)
	dst = binary.BigEndian.AppendUint16(dst, id)
	return appendText(dst, s)
}

func appendText(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s))) //nolint:gosec // bounded by the collector's body limit
	return append(dst, s...)
}

// ErrPayload is wrapped by every error of DecodePayload.
var ErrPayload = errors.New("not a collector payload")

// DecodePayload reads a record that AppendPayload, or a Snowplow collector,
// wrote. Unknown fields are skipped. The texts of the result share one copy of
// the record.
func DecodePayload(record []byte) (event.Payload, error) {
	d := decoder{rest: string(record)}
	p, err := d.payload()
	if err != nil {
		return event.Payload{}, fmt.Errorf("%w: %w at byte %d of %d", ErrPayload, err, len(record)-len(d.rest), len(record))
	}
	return p, nil
}

type decoder struct{ rest string }

var (
	errShort  = errors.New("record ends too early")
	errDepth  = errors.New("nested too deeply")
	errNoTime = errors.New("no timestamp")
)

func (d *decoder) payload() (event.Payload, error) {
	var p event.Payload
	timed := false
	for {
		kind, id, err := d.field()
		if err != nil {
			return p, err
		}
		if kind == typeStop {
			break
		}
		switch target := stringField(&p, id); {
		case kind == typeString && target != nil:
			target.Value, err = d.text()
			target.Set = true
		case kind == typeString && id == fieldIPAddress:
			p.IPAddress, err = d.text()
		case kind == typeString && id == fieldEncoding:
			p.Encoding, err = d.text()
		case kind == typeString && id == fieldCollector:
			p.Collector, err = d.text()
		case kind == typeI64 && id == fieldTimestamp:
			p.Timestamp, err = d.i64()
			timed = true
		case kind == typeList && id == fieldHeaders:
			p.Headers, err = d.headers()
		default:
			err = d.skip(kind, 0)
		}
		if err != nil {
			return p, fmt.Errorf("field %d: %w", id, err)
		}
	}
	if !timed {
		return p, errNoTime
	}
	return p, nil
}

func stringField(p *event.Payload, id uint16) *event.Optional {
	switch id {
	case fieldUserAgent:
		return &p.UserAgent
	case fieldRefererURI:
		return &p.RefererURI
	case fieldPath:
		return &p.Path
	case fieldQuerystring:
		return &p.Querystring
	case fieldBody:
		return &p.Body
	case fieldContentType:
		return &p.ContentType
	case fieldHostname:
		return &p.Hostname
	case fieldNetworkUserID:
		return &p.NetworkUserID
	}
	return nil
}

func (d *decoder) take(n int) (string, error) {
	if n < 0 || n > len(d.rest) {
		return "", errShort
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s, nil
}

func (d *decoder) field() (kind byte, id uint16, err error) {
	s, err := d.take(1)
	if err != nil || s[0] == typeStop {
		return typeStop, 0, err
	}
	kind = s[0]
	if s, err = d.take(2); err != nil {
		return kind, 0, err
	}
	return kind, uint16(s[0])<<8 | uint16(s[1]), nil
}

func (d *decoder) length() (int, error) {
	s, err := d.take(4)
	if err != nil {
		return 0, err
	}
	return int(int32(binary.BigEndian.Uint32([]byte(s)))), nil //nolint:gosec // a negative length is refused by take
}

func (d *decoder) i64() (int64, error) {
	s, err := d.take(8)
	if err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64([]byte(s))), nil //nolint:gosec // two's complement on the wire
}

func (d *decoder) text() (string, error) {
	n, err := d.length()
	if err != nil {
		return "", err
	}
	return d.take(n)
}

func (d *decoder) headers() ([]string, error) {
	s, err := d.take(1)
	if err != nil {
		return nil, err
	}
	if s[0] != typeString {
		return nil, fmt.Errorf("list of type %d, want strings", s[0])
	}
	n, err := d.length()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > len(d.rest)/4 {
		return nil, errShort
	}
	headers := make([]string, n)
	for i := range headers {
		if headers[i], err = d.text(); err != nil {
			return nil, err
		}
	}
	return headers, nil
}

// maxSkipDepth bounds the recursion that a hostile record can ask for.
const maxSkipDepth = 16

var fixedSize = [16]int{typeBool: 1, typeByte: 1, typeDouble: 8, typeI16: 2, typeI32: 4, typeI64: 8}

func (d *decoder) skip(kind byte, depth int) error {
	if depth > maxSkipDepth {
		return errDepth
	}
	if int(kind) < len(fixedSize) && fixedSize[kind] > 0 {
		_, err := d.take(fixedSize[kind])
		return err
	}
	switch kind {
	case typeString:
		_, err := d.text()
		return err
	case typeStruct:
		for {
			kind, _, err := d.field()
			if err != nil || kind == typeStop {
				return err
			}
			if err := d.skip(kind, depth+1); err != nil {
				return err
			}
		}
	case typeList, typeSet:
		return d.skipElements(1, depth)
	case typeMap:
		return d.skipElements(2, depth)
	}
	return fmt.Errorf("unknown type %d", kind)
}

// skipElements skips a list or set (one type) or a map (two).
func (d *decoder) skipElements(types, depth int) error {
	kinds, err := d.take(types)
	if err != nil {
		return err
	}
	n, err := d.length()
	if err != nil {
		return err
	}
	if n < 0 || n > len(d.rest) {
		return errShort
	}
	for range n {
		for _, kind := range []byte(kinds) {
			if err := d.skip(kind, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
