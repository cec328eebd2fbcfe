package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	receiptsFolder  = "receipts"
	receiptAttempts = 100 // at names for receipts of one millisecond
)

// keepReceipt writes the report down without identifiers, and notes the file in it.
func (h *History) keepReceipt(report *ForgetReport, users []string) error {
	kept := *report
	kept.Person, kept.Links = nil, nil
	kept.Failed = make([]Failure, len(report.Failed))
	for i, failure := range report.Failed {
		kept.Failed[i] = Failure{failure.Where, withoutAny(failure.Error, users)}
	}
	text, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	folder := filepath.Join(h.opts.Dir, receiptsFolder)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	name := filepath.Join(folder, "forget-"+report.At.Format("20060102T150405.000Z"))
	for i := range receiptAttempts {
		path := name + ".json"
		if i > 0 {
			path = fmt.Sprintf("%s-%d.json", name, i)
		}
		file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = file.Write(append(text, '\n'))
		if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
			return err
		}
		report.Receipt = path
		return nil
	}
	return fmt.Errorf("%s-*.json: there are too many receipts of this millisecond", name)
}

// withoutAny takes identifiers out of a message that is written to a file.
func withoutAny(text string, identifiers []string) string {
	longest := slices.SortedFunc(slices.Values(identifiers), func(a, b string) int { return len(b) - len(a) })
	for _, id := range longest { // one may be a part of another
		text = strings.ReplaceAll(text, id, "…")
	}
	return text
}
