package event

// The 131 fields of the enriched event, in the order of the TSV cells.
const (
	AppID Field = iota
	Platform
	EtlTstamp
	CollectorTstamp
	DvceCreatedTstamp
	EventType
	EventID
	TxnID
	NameTracker
	VTracker
	VCollector
	VEtl
	UserID
	UserIPAddress
	UserFingerprint
	DomainUserID
	DomainSessionIdx
	NetworkUserID
	GeoCountry
	GeoRegion
	GeoCity
	GeoZipcode
	GeoLatitude
	GeoLongitude
	GeoRegionName
	IPISP
	IPOrganization
	IPDomain
	IPNetspeed
	PageURL
	PageTitle
	PageReferrer
	PageURLScheme
	PageURLHost
	PageURLPort
	PageURLPath
	PageURLQuery
	PageURLFragment
	RefrURLScheme
	RefrURLHost
	RefrURLPort
	RefrURLPath
	RefrURLQuery
	RefrURLFragment
	RefrMedium
	RefrSource
	RefrTerm
	MktMedium
	MktSource
	MktTerm
	MktContent
	MktCampaign
	Contexts
	SeCategory
	SeAction
	SeLabel
	SeProperty
	SeValue
	UnstructEvent
	TrOrderID
	TrAffiliation
	TrTotal
	TrTax
	TrShipping
	TrCity
	TrState
	TrCountry
	TiOrderID
	TiSku
	TiName
	TiCategory
	TiPrice
	TiQuantity
	PpXoffsetMin
	PpXoffsetMax
	PpYoffsetMin
	PpYoffsetMax
	Useragent
	BrName
	BrFamily
	BrVersion
	BrType
	BrRenderengine
	BrLang
	BrFeaturesPdf
	BrFeaturesFlash
	BrFeaturesJava
	BrFeaturesDirector
	BrFeaturesQuicktime
	BrFeaturesRealplayer
	BrFeaturesWindowsmedia
	BrFeaturesGears
	BrFeaturesSilverlight
	BrCookies
	BrColordepth
	BrViewwidth
	BrViewheight
	OSName
	OSFamily
	OSManufacturer
	OSTimezone
	DvceType
	DvceIsmobile
	DvceScreenwidth
	DvceScreenheight
	DocCharset
	DocWidth
	DocHeight
	TrCurrency
	TrTotalBase
	TrTaxBase
	TrShippingBase
	TiCurrency
	TiPriceBase
	BaseCurrency
	GeoTimezone
	MktClickID
	MktNetwork
	EtlTags
	DvceSentTstamp
	RefrDomainUserID
	RefrDvceTstamp
	DerivedContexts
	DomainSessionID
	DerivedTstamp
	EventVendor
	EventName
	EventFormat
	EventVersion
	EventFingerprint
	TrueTstamp
)

// NumFields is the number of cells in an enriched TSV line.
const NumFields = 131

// fields is the one table behind TSV, JSON, SQL and Parquet: name, kind and the
// greatest length in UTF-16 units (0: none).
var fields = [NumFields]info{
	{"app_id", Text, 255},
	{"platform", Text, 255},
	{"etl_tstamp", Time, 0},
	{"collector_tstamp", Time, 0},
	{"dvce_created_tstamp", Time, 0},
	{"event", Text, 128},
	{"event_id", Text, 36},
	{"txn_id", Int, 0},
	{"name_tracker", Text, 128},
	{"v_tracker", Text, 100},
	{"v_collector", Text, 100},
	{"v_etl", Text, 100},
	{"user_id", Text, 255},
	{"user_ipaddress", Text, 128},
	{"user_fingerprint", Text, 128},
	{"domain_userid", Text, 128},
	{"domain_sessionidx", Int, 0},
	{"network_userid", Text, 128},
	{"geo_country", Text, 2},
	{"geo_region", Text, 3},
	{"geo_city", Text, 75},
	{"geo_zipcode", Text, 15},
	{"geo_latitude", Float, 0},
	{"geo_longitude", Float, 0},
	{"geo_region_name", Text, 100},
	{"ip_isp", Text, 100},
	{"ip_organization", Text, 128},
	{"ip_domain", Text, 128},
	{"ip_netspeed", Text, 100},
	{"page_url", Text, 4096},
	{"page_title", Text, 2000},
	{"page_referrer", Text, 4096},
	{"page_urlscheme", Text, 16},
	{"page_urlhost", Text, 255},
	{"page_urlport", Int, 0},
	{"page_urlpath", Text, 3000},
	{"page_urlquery", Text, 6000},
	{"page_urlfragment", Text, 3000},
	{"refr_urlscheme", Text, 16},
	{"refr_urlhost", Text, 255},
	{"refr_urlport", Int, 0},
	{"refr_urlpath", Text, 6000},
	{"refr_urlquery", Text, 6000},
	{"refr_urlfragment", Text, 3000},
	{"refr_medium", Text, 25},
	{"refr_source", Text, 50},
	{"refr_term", Text, 255},
	{"mkt_medium", Text, 255},
	{"mkt_source", Text, 255},
	{"mkt_term", Text, 255},
	{"mkt_content", Text, 500},
	{"mkt_campaign", Text, 255},
	{"contexts", JSON, 0},
	{"se_category", Text, 1000},
	{"se_action", Text, 1000},
	{"se_label", Text, 4096},
	{"se_property", Text, 1000},
	{"se_value", Decimal, 0},
	{"unstruct_event", JSON, 0},
	{"tr_orderid", Text, 255},
	{"tr_affiliation", Text, 255},
	{"tr_total", Decimal, 0},
	{"tr_tax", Decimal, 0},
	{"tr_shipping", Decimal, 0},
	{"tr_city", Text, 255},
	{"tr_state", Text, 255},
	{"tr_country", Text, 255},
	{"ti_orderid", Text, 255},
	{"ti_sku", Text, 255},
	{"ti_name", Text, 255},
	{"ti_category", Text, 255},
	{"ti_price", Decimal, 0},
	{"ti_quantity", Int, 0},
	{"pp_xoffset_min", Int, 0},
	{"pp_xoffset_max", Int, 0},
	{"pp_yoffset_min", Int, 0},
	{"pp_yoffset_max", Int, 0},
	{"useragent", Text, 1000},
	{"br_name", Text, 50},
	{"br_family", Text, 50},
	{"br_version", Text, 50},
	{"br_type", Text, 50},
	{"br_renderengine", Text, 50},
	{"br_lang", Text, 255},
	{"br_features_pdf", Bool, 0},
	{"br_features_flash", Bool, 0},
	{"br_features_java", Bool, 0},
	{"br_features_director", Bool, 0},
	{"br_features_quicktime", Bool, 0},
	{"br_features_realplayer", Bool, 0},
	{"br_features_windowsmedia", Bool, 0},
	{"br_features_gears", Bool, 0},
	{"br_features_silverlight", Bool, 0},
	{"br_cookies", Bool, 0},
	{"br_colordepth", Text, 12},
	{"br_viewwidth", Int, 0},
	{"br_viewheight", Int, 0},
	{"os_name", Text, 50},
	{"os_family", Text, 50},
	{"os_manufacturer", Text, 50},
	{"os_timezone", Text, 255},
	{"dvce_type", Text, 50},
	{"dvce_ismobile", Bool, 0},
	{"dvce_screenwidth", Int, 0},
	{"dvce_screenheight", Int, 0},
	{"doc_charset", Text, 128},
	{"doc_width", Int, 0},
	{"doc_height", Int, 0},
	{"tr_currency", Text, 3},
	{"tr_total_base", Decimal, 0},
	{"tr_tax_base", Decimal, 0},
	{"tr_shipping_base", Decimal, 0},
	{"ti_currency", Text, 3},
	{"ti_price_base", Decimal, 0},
	{"base_currency", Text, 3},
	{"geo_timezone", Text, 64},
	{"mkt_clickid", Text, 128},
	{"mkt_network", Text, 64},
	{"etl_tags", Text, 500},
	{"dvce_sent_tstamp", Time, 0},
	{"refr_domain_userid", Text, 128},
	{"refr_dvce_tstamp", Time, 0},
	{"derived_contexts", JSON, 0},
	{"domain_sessionid", Text, 128},
	{"derived_tstamp", Time, 0},
	{"event_vendor", Text, 1000},
	{"event_name", Text, 1000},
	{"event_format", Text, 128},
	{"event_version", Text, 128},
	{"event_fingerprint", Text, 128},
	{"true_tstamp", Time, 0},
}
