package otel_test

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// told takes a point: of a histogram its sum and count.
type told func(set attribute.Set, value float64, count uint64)

// eachPoint tells of the points of a metric, and returns what kind it is.
func eachPoint(t testing.TB, m metricdata.Metrics, tell told) (kind string) {
	t.Helper()
	switch d := m.Data.(type) {
	case metricdata.Sum[int64]:
		numbers(d.DataPoints, tell)
		return "counter"
	case metricdata.Sum[float64]:
		numbers(d.DataPoints, tell)
		return "counter"
	case metricdata.Gauge[int64]:
		numbers(d.DataPoints, tell)
		return "gauge"
	case metricdata.Gauge[float64]:
		numbers(d.DataPoints, tell)
		return "gauge"
	case metricdata.Histogram[int64]:
		sums(d.DataPoints, tell)
		return "histogram"
	case metricdata.Histogram[float64]:
		sums(d.DataPoints, tell)
		return "histogram"
	}
	t.Fatalf("%s is a %T", m.Name, m.Data)
	return ""
}

func numbers[N int64 | float64](points []metricdata.DataPoint[N], tell told) {
	for _, p := range points {
		tell(p.Attributes, float64(p.Value), 0)
	}
}

func sums[N int64 | float64](points []metricdata.HistogramDataPoint[N], tell told) {
	for _, p := range points {
		tell(p.Attributes, float64(p.Sum), p.Count)
	}
}
