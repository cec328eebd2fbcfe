package mem_test

import (
	"testing"

	"furrow/internal/bus/bustest"
	"furrow/internal/bus/mem"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func adapter(o mem.Options) bustest.Factory {
	return func(*testing.T) bustest.Adapter {
		b := mem.New(o)
		return bustest.Adapter{
			Open: func(*testing.T) bustest.Bus {
				b = b.Reopen()
				return b
			},
			Small: func(*testing.T) bustest.Bus { return mem.New(mem.Options{MaxMessages: 50}) },
		}
	}
}

func TestContract(t *testing.T) { bustest.Run(t, adapter(mem.Options{})) }

func TestContractWithPartitions(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Adapter {
		t.Helper()
		a := adapter(mem.Options{Partitions: 3})(t)
		a.Partitions = 3
		a.Revoke = func(t *testing.T, b bustest.Bus, group, partition string) func() {
			t.Helper()
			giveBack, err := b.(*mem.Bus).Revoke(group, partition)
			if err != nil {
				t.Fatal(err)
			}
			return giveBack
		}
		return a
	})
}
