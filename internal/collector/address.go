package collector

import (
	"net/http"
	"net/netip"
	"strings"
)

const unknownAddress = "unknown"

// clientAddress returns the first address of the first X-Forwarded-For line that
// can be read, else X-Real-Ip, else the peer's.
func clientAddress(r *http.Request) string {
	for _, line := range r.Header["X-Forwarded-For"] {
		if first, ok := firstAddress(line); ok {
			return first
		}
	}
	for _, line := range r.Header["X-Real-Ip"] {
		if address, ok := readAddress(line); ok {
			return address
		}
	}
	host := r.RemoteAddr
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if i := strings.IndexByte(host, '%'); i >= 0 {
		host = host[:i]
	}
	if address, ok := readAddress(host); ok {
		return address
	}
	return unknownAddress
}

// firstAddress reads a list of addresses. One element that is neither an address
// nor "unknown" makes the whole list worthless.
func firstAddress(list string) (first string, ok bool) {
	for i := 0; ; i++ {
		one, rest, more := strings.Cut(list, ",")
		address, ok := readAddress(strings.Trim(one, " \t"))
		if !ok {
			return "", false
		}
		if i == 0 {
			first = address
		}
		if !more {
			return first, true
		}
		list = rest
	}
}

// readAddress returns the usual spelling of an address, or of "unknown".
func readAddress(s string) (string, bool) {
	if s == unknownAddress {
		return s, true
	}
	address, err := netip.ParseAddr(s)
	if err != nil || address.Zone() != "" {
		return "", false
	}
	if address.Is4() {
		return s, true
	}
	return address.Unmap().String(), true
}

// addressHeaders are the headers that carry a visitor's address or cookies by
// definition, whatever stands in them.
var addressHeaders = map[string]bool{
	"Cookie": true, "Cookie2": true,
	"Forwarded": true, "X-Forwarded": true,
	"Remote-Addr": true, "X-Remote-Addr": true, "X-Envoy-External-Address": true, "Cloudfront-Viewer-Address": true,
	"Cf-Connecting-Ipv6": true, "Cf-Pseudo-Ipv4": true, "X-Azure-Clientip": true, "X-Azure-Socketip": true,
	"X-Originating-Ip": true, "X-Coming-From": true,
}

// carriesAddress reports whether a header may tell who an anonymous visitor is:
// by its name, or because an address stands in it. Browsers write version numbers
// that look like addresses into User-Agent and Sec-…; those, and the headers
// that name sites, are not searched.
func carriesAddress(name, value string) bool {
	if addressHeaders[name] || strings.HasSuffix(name, "-Ip") ||
		strings.HasSuffix(name, "Forwarded-For") || strings.HasSuffix(name, "Proxied-For") {
		return true
	}
	switch name {
	case "Host", "User-Agent", "Referer", "Origin":
		return false
	}
	if strings.HasPrefix(name, "Sec-") {
		return false
	}
	for word := range strings.FieldsFuncSeq(value, func(r rune) bool { return strings.ContainsRune(" \t,;=\"", r) }) {
		if _, err := netip.ParseAddrPort(word); err == nil {
			return true
		}
		word = strings.TrimSuffix(strings.TrimPrefix(word, "["), "]")
		if _, err := netip.ParseAddr(word); err == nil {
			return true
		}
	}
	return false
}

// hostname returns the request's host in lower case, without port and brackets.
func hostname(host string) string {
	if strings.HasPrefix(host, "[") {
		if i := strings.IndexByte(host, ']'); i > 0 {
			host = host[1:i]
		}
	} else if i := strings.IndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return validText(strings.ToLower(host))
}
