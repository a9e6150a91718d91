package otel

import (
	"net"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// Attributes that no convention has.
const (
	accountKey     = attribute.Key("seawall.account")
	keyKey         = attribute.Key("seawall.key")
	endpointKey    = attribute.Key("seawall.endpoint")
	attemptKindKey = attribute.Key("seawall.attempt.kind")
	attemptsKey    = attribute.Key("seawall.attempts")
	waitKey        = attribute.Key("seawall.wait.duration")
	waitReasonKey  = attribute.Key("seawall.wait.reason")
	causeKey       = attribute.Key("seawall.cause")
	stateKey       = attribute.Key("seawall.state")
	stateWasKey    = attribute.Key("seawall.state.previous")
	forKey         = attribute.Key("seawall.state.duration")
	fallbackKey    = attribute.Key("seawall.fallback.model")
	keptKey        = attribute.Key("seawall.resume.kept")
	resumeKey      = attribute.Key("seawall.resume.outcome")
	limitKey       = attribute.Key("seawall.limit")
	limitWasKey    = attribute.Key("seawall.limit.previous")
	cacheKey       = attribute.Key("seawall.cache")
	storeOpKey     = attribute.Key("seawall.cache.operation")
	costKey        = attribute.Key("seawall.cost")
	currencyKey    = attribute.Key("seawall.currency")
	tokenKindKey   = attribute.Key("seawall.token.kind")
	tariffKey      = attribute.Key("seawall.tariff")
	clientKey      = attribute.Key("seawall.client")
	serverTraceKey = attribute.Key("seawall.server.trace_id")
	errorTextKey   = attribute.Key("seawall.error")
	contextHitKey  = attribute.Key("seawall.context_cache")
)

// provider is that whose API is spoken, whoever the host is.
var provider = semconv.GenAIProviderNameDeepseek

// appendServer adds where a host is.
func appendServer(attrs []attribute.KeyValue, host string) []attribute.KeyValue {
	if host == "" {
		return attrs
	}
	address, port, err := net.SplitHostPort(host)
	if err != nil { // none: keys go nowhere but over HTTPS
		address, port = host, "443"
	}
	n, _ := strconv.Atoi(port)
	return append(attrs, semconv.ServerAddress(address), semconv.ServerPort(n))
}

// appendName adds an attribute unless it is empty.
func appendName(attrs []attribute.KeyValue, key attribute.Key, value string) []attribute.KeyValue {
	if value == "" {
		return attrs
	}
	return append(attrs, key.String(value))
}
