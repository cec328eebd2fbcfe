package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	attempts         = 4 // at one request, before the caller hears of it
	firstPause       = 200 * time.Millisecond
	maxPause         = 5 * time.Second
	maxConnections   = 16
	dialTimeout      = 10 * time.Second
	idleTimeout      = 30 * time.Second
	credentialsLimit = 15 * time.Second // for an instance role, or whatever else names the keys
	defaultRegion    = "us-east-1"
)

// newBucket makes a place on S3. It reads AWS's environment and files, and asks no
// server anything. requests may be nil.
func newBucket(ctx context.Context, at location, cfg S3, tmp string, requests *prometheus.CounterVec, log *slog.Logger) (*bucket, error) {
	loaded, err := config.LoadDefaultConfig(ctx, loadOptions(cfg)...)
	if err != nil {
		return nil, fmt.Errorf("archive: AWS's environment variables or shared files: %w", err)
	}
	transport := awshttp.NewBuildableClient().GetTransport()
	if c, ok := loaded.HTTPClient.(*awshttp.BuildableClient); ok {
		transport = c.GetTransport() // it knows AWS_CA_BUNDLE
	}
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost, transport.MaxIdleConns = maxConnections, maxConnections, maxConnections
	transport.IdleConnTimeout = idleTimeout
	// A stored object is its bytes; nobody may unpack it on the way.
	transport.DisableCompression = true
	b := &bucket{
		idle: transport.CloseIdleConnections, name: at.bucket, tmp: tmp,
		partBytes: cfg.PartBytes, timeout: cfg.Timeout, pause: firstPause, requests: requests, log: log,
	}
	if at.prefix != "" {
		b.prefix = at.prefix + "/"
	}
	// AWS verifies CRCs of its own making. Other servers do not all know them; they
	// verify the SHA-256 of the body that is part of the signature.
	onAWS := cfg.Endpoint == "" && aws.ToString(loaded.BaseEndpoint) == ""
	if onAWS {
		b.checksum = types.ChecksumAlgorithmCrc32
	}
	b.client = s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.UsePathStyle = cfg.PathStyle
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(strings.TrimSuffix(cfg.Endpoint, "/"))
		}
		if !onAWS {
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
		o.Credentials = boundedCredentials{loaded.Credentials}
		o.HTTPClient = &http.Client{Transport: transport, CheckRedirect: followTemporary}
		// bucket.try repeats requests, and knows which answers were lost.
		o.Retryer = aws.NopRetryer{}
		o.Logger = logging.Nop{}
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	return b, nil
}

func loadOptions(cfg S3) []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{
		config.WithDefaultRegion(defaultRegion), config.WithLogger(logging.Nop{}),
		config.WithHTTPClient(awshttp.NewBuildableClient()),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, "")))
	}
	return options
}

// followTemporary follows the redirects that keep method and body, as S3 sends
// them for young buckets. Others are the answer.
func followTemporary(r *http.Request, via []*http.Request) error {
	status := r.Response.StatusCode
	if len(via) < 5 && (status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect) {
		return nil
	}
	return http.ErrUseLastResponse
}

// errCredentials: no keys could be had.
var errCredentials = errors.New("no credentials")

// boundedCredentials asks for keys only so long: where there is no instance role
// the request for it can hang.
type boundedCredentials struct{ from aws.CredentialsProvider }

// Retrieve returns the keys.
func (c boundedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if c.from == nil {
		return aws.Credentials{}, errCredentials
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsLimit)
	defer cancel()
	keys, err := c.from.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	return keys, nil
}

// try makes a request until it succeeds, fails for good, or failed a few times.
// Each attempt, with what call reads of the answer, has the same time limit.
func (b *bucket) try(ctx context.Context, op, name string, call func(context.Context) error) error {
	pause := b.pause
	for attempt := 1; ; attempt++ {
		err := b.once(ctx, call)
		b.count(op, err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return b.fail(op, name, context.Cause(ctx))
		case attempt == attempts || !retryable(err):
			failed := b.fail(op, name, err)
			failed.attempts = attempt
			return failed
		}
		// Half of it at random, so that what failed together does not come together.
		wait := time.NewTimer(pause/2 + rand.N(pause/2+1)) //nolint:gosec // no secret
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		pause = min(4*pause, maxPause)
	}
}

// once makes one attempt.
func (b *bucket) once(ctx context.Context, call func(context.Context) error) error {
	attempt, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	err := call(attempt)
	if err != nil && attempt.Err() != nil && ctx.Err() == nil {
		return &timeoutError{b.timeout, err}
	}
	return err
}

func (b *bucket) count(op string, err error) {
	if b.requests == nil {
		return
	}
	result := "ok"
	if code, status := errorCode(err); status != 0 && status < 500 && code != "SlowDown" {
		result = "refused"
		if errors.Is(asMissing(err), fs.ErrNotExist) {
			result = "missing"
		}
	} else if err != nil {
		result = "failed"
	}
	b.requests.WithLabelValues(op, result).Inc()
}

// close lets go of idle connections.
func (b *bucket) close() { b.idle() }
