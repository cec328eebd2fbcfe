package snowplow

import "furrow/internal/event"

// Conversion is how the text of a tracker parameter becomes the value of a field.
type Conversion uint8

// The conversions of the tracker protocol, see Set.
const (
	Ignored      Conversion = iota // accepted, sets nothing
	AsText                         // TSV-safe text
	AsEventType                    // two-letter code to the event's name
	AsPlatform                     // one of the platform codes
	AsUUID                         // canonical UUID, lower-cased
	AsInt                          // 32-bit integer
	AsDecimal                      // text of a Java BigDecimal
	AsBool                         // 1 or 0
	AsMillis                       // milliseconds since the epoch
	AsDimension                    // WIDTHxHEIGHT, into Field and Second
	AsAddress                      // the first of a list of addresses
	AsJSON                         // self-describing JSON
	AsBase64JSON                   // the same, as lenient base64
)

// NotInPayloadData is the Since of a parameter that only a query string may
// carry.
const NotInPayloadData = 127

// Spec describes one parameter of the tracker protocol.
type Spec struct {
	Name       string
	Conversion Conversion
	Field      event.Field // what it sets; meaningless when Ignored
	Second     event.Field // height of a dimension
	Since      uint8       // first addition of payload_data 1-0-* that knows it
}

// NumParams is the number of parameters that the tracker protocol knows.
const NumParams = len(specs)

// specs is the tracker protocol in the order in which parameters apply: where two
// set one field, the later one wins (se_ over ev_, the base64 over the plain JSON,
// tnuid over nuid).
var specs = [...]Spec{
	{Name: "e", Conversion: AsEventType, Field: event.EventType},
	{Name: "eid", Conversion: AsUUID, Field: event.EventID},
	{Name: "p", Conversion: AsPlatform, Field: event.Platform},
	{Name: "tv", Conversion: AsText, Field: event.VTracker},
	{Name: "aid", Conversion: AsText, Field: event.AppID},
	{Name: "tna", Conversion: AsText, Field: event.NameTracker},
	{Name: "cv", Conversion: AsText, Field: event.VCollector, Since: NotInPayloadData},
	{Name: "dtm", Conversion: AsMillis, Field: event.DvceCreatedTstamp},
	{Name: "stm", Conversion: AsMillis, Field: event.DvceSentTstamp, Since: 3},
	{Name: "ttm", Conversion: AsMillis, Field: event.TrueTstamp, Since: 4},
	{Name: "tz", Conversion: AsText, Field: event.OSTimezone},
	{Name: "tid", Conversion: AsInt, Field: event.TxnID},
	{Name: "uid", Conversion: AsText, Field: event.UserID},
	{Name: "duid", Conversion: AsText, Field: event.DomainUserID},
	{Name: "nuid", Conversion: AsText, Field: event.NetworkUserID},
	{Name: "tnuid", Conversion: AsText, Field: event.NetworkUserID, Since: 2},
	{Name: "vid", Conversion: AsInt, Field: event.DomainSessionIdx},
	{Name: "sid", Conversion: AsUUID, Field: event.DomainSessionID, Since: 3},
	{Name: "ip", Conversion: AsAddress, Field: event.UserIPAddress},
	{Name: "ua", Conversion: AsText, Field: event.Useragent, Since: 1},
	{Name: "fp", Conversion: AsText, Field: event.UserFingerprint},
	{Name: "lang", Conversion: AsText, Field: event.BrLang},
	{Name: "f_pdf", Conversion: AsBool, Field: event.BrFeaturesPdf},
	{Name: "f_fla", Conversion: AsBool, Field: event.BrFeaturesFlash},
	{Name: "f_java", Conversion: AsBool, Field: event.BrFeaturesJava},
	{Name: "f_dir", Conversion: AsBool, Field: event.BrFeaturesDirector},
	{Name: "f_qt", Conversion: AsBool, Field: event.BrFeaturesQuicktime},
	{Name: "f_realp", Conversion: AsBool, Field: event.BrFeaturesRealplayer},
	{Name: "f_wma", Conversion: AsBool, Field: event.BrFeaturesWindowsmedia},
	{Name: "f_gears", Conversion: AsBool, Field: event.BrFeaturesGears},
	{Name: "f_ag", Conversion: AsBool, Field: event.BrFeaturesSilverlight},
	{Name: "cookie", Conversion: AsBool, Field: event.BrCookies},
	{Name: "cd", Conversion: AsText, Field: event.BrColordepth},
	{Name: "res", Conversion: AsDimension, Field: event.DvceScreenwidth, Second: event.DvceScreenheight},
	{Name: "vp", Conversion: AsDimension, Field: event.BrViewwidth, Second: event.BrViewheight},
	{Name: "ds", Conversion: AsDimension, Field: event.DocWidth, Second: event.DocHeight},
	{Name: "cs", Conversion: AsText, Field: event.DocCharset},
	{Name: "url", Conversion: AsText, Field: event.PageURL},
	{Name: "refr", Conversion: AsText, Field: event.PageReferrer},
	{Name: "page", Conversion: AsText, Field: event.PageTitle},
	{Name: "co", Conversion: AsJSON, Field: event.Contexts},
	{Name: "cx", Conversion: AsBase64JSON, Field: event.Contexts},
	{Name: "ue_pr", Conversion: AsJSON, Field: event.UnstructEvent},
	{Name: "ue_px", Conversion: AsBase64JSON, Field: event.UnstructEvent},
	{Name: "ev_ca", Conversion: AsText, Field: event.SeCategory, Since: NotInPayloadData},
	{Name: "ev_ac", Conversion: AsText, Field: event.SeAction, Since: NotInPayloadData},
	{Name: "ev_la", Conversion: AsText, Field: event.SeLabel, Since: NotInPayloadData},
	{Name: "ev_pr", Conversion: AsText, Field: event.SeProperty, Since: NotInPayloadData},
	{Name: "ev_va", Conversion: AsDecimal, Field: event.SeValue, Since: NotInPayloadData},
	{Name: "se_ca", Conversion: AsText, Field: event.SeCategory},
	{Name: "se_ac", Conversion: AsText, Field: event.SeAction},
	{Name: "se_la", Conversion: AsText, Field: event.SeLabel},
	{Name: "se_pr", Conversion: AsText, Field: event.SeProperty},
	{Name: "se_va", Conversion: AsDecimal, Field: event.SeValue},
	{Name: "tr_id", Conversion: AsText, Field: event.TrOrderID},
	{Name: "tr_af", Conversion: AsText, Field: event.TrAffiliation},
	{Name: "tr_ci", Conversion: AsText, Field: event.TrCity},
	{Name: "tr_st", Conversion: AsText, Field: event.TrState},
	{Name: "tr_co", Conversion: AsText, Field: event.TrCountry},
	{Name: "tr_cu", Conversion: AsText, Field: event.TrCurrency},
	{Name: "tr_tt", Conversion: AsDecimal, Field: event.TrTotal},
	{Name: "tr_tx", Conversion: AsDecimal, Field: event.TrTax},
	{Name: "tr_sh", Conversion: AsDecimal, Field: event.TrShipping},
	{Name: "ti_id", Conversion: AsText, Field: event.TiOrderID},
	{Name: "ti_sk", Conversion: AsText, Field: event.TiSku},
	{Name: "ti_na", Conversion: AsText, Field: event.TiName},
	{Name: "ti_nm", Conversion: AsText, Field: event.TiName},
	{Name: "ti_ca", Conversion: AsText, Field: event.TiCategory},
	{Name: "ti_cu", Conversion: AsText, Field: event.TiCurrency},
	{Name: "ti_pr", Conversion: AsDecimal, Field: event.TiPrice},
	{Name: "ti_qu", Conversion: AsInt, Field: event.TiQuantity},
	{Name: "pp_mix", Conversion: AsInt, Field: event.PpXoffsetMin},
	{Name: "pp_max", Conversion: AsInt, Field: event.PpXoffsetMax},
	{Name: "pp_miy", Conversion: AsInt, Field: event.PpYoffsetMin},
	{Name: "pp_may", Conversion: AsInt, Field: event.PpYoffsetMax},
	{Name: "ctype"},
	{Name: "mac"},
	{Name: "ad_ba"},
	{Name: "ad_ca"},
	{Name: "ad_ad"},
	{Name: "ad_uid"},
	{Name: "sa"},
	{Name: "sn"},
	{Name: "st"},
	{Name: "sp"},
	{Name: "ue_na"},
}

var specByName = func() map[string]uint8 {
	m := make(map[string]uint8, len(specs))
	for i := range specs {
		m[specs[i].Name] = uint8(i)
	}
	return m
}()

// LookupParam returns the number of a parameter of the tracker protocol, below
// NumParams, for use with ParamSpec.
func LookupParam(name string) (int, bool) {
	i, ok := specByName[name]
	return int(i), ok
}

// ParamSpec returns the description of the parameter with that number.
func ParamSpec(i int) *Spec { return &specs[i] }
