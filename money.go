package deepseek

import (
	"fmt"
	"strconv"
	"strings"
)

// Money is an amount in billionths of its currency's unit. The price of a token
// is a whole number of them, so sums are exact.
type Money int64

// unit is one dollar, say.
const unit = 1_000_000_000

// Float64 is the amount in units of the currency.
func (m Money) Float64() float64 { return float64(m) / unit }

// String is the amount in units of the currency, exact, such as "0.0153".
func (m Money) String() string {
	n, sign := uint64(m), ""
	if m < 0 {
		n, sign = -n, "-"
	}
	s := sign + strconv.FormatUint(n/unit, 10)
	if part := n % unit; part != 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%09d", part), "0")
	}
	return s
}
