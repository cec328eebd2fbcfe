package tombstone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// The file is lines of JSON: a head, one line for each tombstone, and a line with
// the CRC-32C of all before it. It is replaced as a whole, by a rename, so a crash
// leaves the old one or the new one. It holds the key and therefore belongs to its
// owner alone.
const (
	fileFormat = 1
	fileMode   = 0o600
	folderMode = 0o750
)

type fileHead struct {
	Format int    `json:"furrow_tombstones"`
	Own    string `json:"own,omitempty"` // key of the installation, hex; absent before its first Add
}

type fileTail struct {
	Count int    `json:"count"`
	CRC   uint32 `json:"crc32c"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// read returns what the file holds, nothing when there is none.
func read(path string) (own Hash, stones []Tombstone, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Hash{}, nil, nil
	}
	if err != nil {
		return Hash{}, nil, fmt.Errorf("tombstone: %w", err)
	}
	own, stones, err = decode(data)
	if err != nil {
		return Hash{}, nil, fmt.Errorf("tombstone: %s: %w: bring it back from a backup; "+
			"if there is none, move it away and forget the same people again", path, err)
	}
	return own, stones, nil
}

var errTorn = errors.New("the file is damaged")

func decode(data []byte) (own Hash, stones []Tombstone, err error) {
	body, last, ok := cutLastLine(data)
	var tail fileTail
	if !ok || json.Unmarshal(last, &tail) != nil || tail.CRC != crc32.Checksum(body, castagnoli) {
		return Hash{}, nil, errTorn
	}
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	var head fileHead
	if err := json.Unmarshal(lines[0], &head); err != nil {
		return Hash{}, nil, errTorn
	}
	if head.Format != fileFormat {
		return Hash{}, nil, fmt.Errorf("it has format %d, this program knows %d: use the newer program", head.Format, fileFormat)
	}
	if head.Own != "" {
		if err := own.UnmarshalText([]byte(head.Own)); err != nil {
			return Hash{}, nil, errTorn
		}
	}
	if len(lines)-1 != tail.Count {
		return Hash{}, nil, errTorn
	}
	for _, line := range lines[1:] {
		var t Tombstone
		if err := json.Unmarshal(line, &t); err != nil {
			return Hash{}, nil, fmt.Errorf("%w: %w", errTorn, err)
		}
		if t.Until, err = moment(t.Until); err != nil {
			return Hash{}, nil, err
		}
		stones = append(stones, t)
	}
	return own, list(union(stones)), nil
}

// cutLastLine splits off the last line, which must be complete.
func cutLastLine(data []byte) (body, last []byte, ok bool) {
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return nil, nil, false
	}
	i := bytes.LastIndexByte(data[:len(data)-1], '\n')
	if i < 0 {
		return nil, nil, false
	}
	return data[:i+1], data[i+1:], true
}

func encode(own Hash, stones []Tombstone) ([]byte, error) {
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	head := fileHead{Format: fileFormat}
	if own != (Hash{}) {
		text, err := own.MarshalText()
		if err != nil {
			return nil, err
		}
		head.Own = string(text)
	}
	if err := lines.Encode(head); err != nil {
		return nil, err
	}
	for i := range stones {
		if err := lines.Encode(&stones[i]); err != nil {
			return nil, err
		}
	}
	tail := fileTail{Count: len(stones), CRC: crc32.Checksum(b.Bytes(), castagnoli)}
	if err := lines.Encode(tail); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// write replaces the file and returns when the new one is durable.
func write(path string, own Hash, stones []Tombstone) error {
	data, err := encode(own, stones)
	if err == nil {
		err = replace(path, data)
	}
	if err != nil {
		return fmt.Errorf("tombstone: keep %s: %w", path, err)
	}
	return nil
}

func replace(path string, data []byte) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // what a failure left
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(fileMode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
