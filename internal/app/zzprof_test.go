package app
import ("testing";"os";"time";"log/slog";"context";"runtime/pprof";"fmt";"furrow/internal/config")
func TestZZProf(t *testing.T){
 cfg:=config.Default(); cfg.DataDir=t.TempDir(); cfg.Listen="127.0.0.1:39999"; cfg.Admin="127.0.0.1:0"; cfg.Roles=[]string{"collector"}
 if r:=os.Getenv("PROFROLES"); r!="" { cfg.Roles=[]string{r} }
 a,err:=New(cfg,Options{Version:"0.1.0",Log:slog.New(slog.DiscardHandler)}); if err!=nil{t.Fatal(err)}
 ctx,c:=context.WithCancel(context.Background()); done:=make(chan error,1); go func(){done<-a.Run(ctx)}()
 fmt.Println("Ready in")
 <-time.After(3*time.Second); f,_:=os.Create("/tmp/cpu.prof"); pprof.StartCPUProfile(f); <-time.After(8*time.Second); pprof.StopCPUProfile(); f.Close(); c(); <-done
}
