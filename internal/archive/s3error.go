package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// timeoutError is an attempt that took too long.
type timeoutError struct {
	limit time.Duration
	err   error
}

// Error names the limit.
func (e *timeoutError) Error() string {
	return fmt.Sprintf("not done within %s (archive.s3.timeout)", e.limit)
}

// Unwrap returns what was cut off.
func (e *timeoutError) Unwrap() error { return e.err }

// placeError is a request that failed.
type placeError struct {
	op, object string
	err        error
	attempts   int // 0: it does not matter
}

// Error says what was tried, on which object, and why it failed.
func (e *placeError) Error() string {
	text := fmt.Sprintf("%s %s: %s", e.op, e.object, describe(e.err))
	if e.attempts > 1 {
		text += fmt.Sprintf(", %d attempts", e.attempts)
	}
	return text
}

// Unwrap returns the cause.
func (e *placeError) Unwrap() error { return e.err }

// fail names the operation and the object.
func (b *bucket) fail(op, name string, err error) *placeError {
	return &placeError{op: op, object: s3Scheme + b.name + "/" + b.prefix + name, err: asMissing(err)}
}

// errorCode returns S3's code and the HTTP status of an error; empty and 0 when
// the server gave no answer.
func errorCode(err error) (code string, status int) {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = response.HTTPStatusCode()
	}
	if _, ok := errors.AsType[*timeoutError](err); ok {
		return "", 0 // whatever came was not all of it
	}
	return code, status
}

// isMissing reports whether the object is not there. A missing bucket is another
// matter: an archive that looks empty would be written anew.
func isMissing(err error) bool {
	code, _ := errorCode(err)
	return code == "NoSuchKey" || errors.Is(err, fs.ErrNotExist)
}

// asMissing lets callers find fs.ErrNotExist.
func asMissing(err error) error {
	if err != nil && isMissing(err) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (%w)", fs.ErrNotExist, err)
	}
	return err
}

// permanent are failures that another attempt would meet again, whatever their
// HTTP status.
type permanent struct{ error }

// Unwrap returns the failure.
func (p permanent) Unwrap() error { return p.error }

// retryable reports whether another attempt may succeed.
func retryable(err error) bool {
	if _, ok := errors.AsType[permanent](err); ok || errors.Is(err, errCredentials) || errors.Is(err, context.Canceled) {
		return false
	}
	code, status := errorCode(err)
	switch code {
	case "ConditionalRequestConflict", "OperationAborted", // somebody else is at it
		"RequestTimeTooSkewed",                                                       // the SDK corrects its clock
		"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", // damaged on the way
		"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded",
		"InternalError", "ServiceUnavailable":
		return true
	}
	switch {
	case status == 0: // no answer, or half of one
		return !errors.Is(err, fs.ErrNotExist)
	case status == http.StatusNotImplemented:
		return false
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		return true
	case status < 300:
		return true // an answer that cannot be read
	default:
		return status >= 500
	}
}

// hints say what to do about S3's codes.
var hints = map[string]string{
	"NoSuchBucket":                       "there is no such bucket: create it, or mend archive.url",
	"InvalidBucketName":                  "that is no name of a bucket: mend archive.url",
	"InvalidAccessKeyId":                 "the server does not know the access key: mend archive.s3.accessKeyId, or AWS_ACCESS_KEY_ID",
	"XAdminUserNotFound":                 "the server does not know the access key: mend archive.s3.accessKeyId, or AWS_ACCESS_KEY_ID",
	"SignatureDoesNotMatch":              "the secret key does not belong to the access key: mend archive.s3.secretAccessKey, or AWS_SECRET_ACCESS_KEY",
	"AccessDenied":                       "these credentials may not do that: allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on its objects, s3:ListBucket and s3:ListBucketMultipartUploads on the bucket",
	"Forbidden":                          "these credentials may not do that",
	"ExpiredToken":                       "the temporary credentials have expired",
	"PermanentRedirect":                  "the bucket is in another region: set archive.s3.region",
	"AuthorizationHeaderMalformed":       "the bucket is in another region: set archive.s3.region",
	"IllegalLocationConstraintException": "the bucket is in another region: set archive.s3.region",
	"RequestTimeTooSkewed":               "the clocks of this machine and the server differ too much",
	"NotImplemented":                     "the server lacks this part of the S3 protocol, which the archive needs",
	"SlowDown":                           "the server asks for fewer requests",
	"EntityTooLarge":                     "the file is too large for one request: lower archive.s3.partBytes",
	"NoSuchUpload":                       "the upload in parts was taken away, as by a lifecycle rule; it starts again",
}

// describe makes a cause readable. The SDK's own text buries it.
func describe(err error) string {
	if timeout, ok := errors.AsType[*timeoutError](err); ok {
		return timeout.Error()
	}
	if errors.Is(err, errCredentials) {
		return "no credentials could be had: set archive.s3.accessKeyId and secretAccessKey, AWS's environment variables or shared files, or give the machine a role: " + err.Error()
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		text := api.ErrorCode()
		if hint := hints[text]; hint != "" {
			text = hint + ": " + text
		}
		if message := api.ErrorMessage(); message != "" && message != api.ErrorCode() {
			text += ": " + message
		}
		if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
			text += fmt.Sprintf(" (HTTP %d", response.HTTPStatusCode())
			if id := response.ServiceRequestID(); id != "" {
				text += ", request " + id
			}
			text += ")"
		}
		return text
	}
	if send, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return send.Err.Error()
	}
	return err.Error()
}
