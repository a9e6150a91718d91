package deepseek

import "context"

// Balance is the money of one account.
//
// Source: https://api-docs.deepseek.com/api/get-user-balance
type Balance struct {
	Available bool          // enough for calls
	Infos     []BalanceInfo // one for each currency
	Extra     Extra         // what else the server sent
}

// BalanceInfo is the balance in one currency. Amounts are decimal texts, such as
// "110.00", as the API sends them: they are exact.
type BalanceInfo struct {
	Currency string // "CNY" or "USD"
	Total    string // Granted and ToppedUp together
	Granted  string // given for free; spent first
	ToppedUp string // paid in
	Extra    Extra  // what else the server sent
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (b *Balance) UnmarshalJSON(data []byte) error { return unmarshal(data, b.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (b Balance) MarshalJSON() ([]byte, error) { return marshal(b.encode) }

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (b *BalanceInfo) UnmarshalJSON(data []byte) error { return unmarshal(data, b.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (b BalanceInfo) MarshalJSON() ([]byte, error) { return marshal(b.encode) }

func (b *Balance) decode(data []byte) error {
	return decodeObject(data, &b.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "is_available":
			return decodeBool(value, &b.Available)
		case "balance_infos":
			return decodeArray(value, &b.Infos, (*BalanceInfo).decode)
		}
		return false
	})
}

func (b *BalanceInfo) decode(data []byte) error {
	return decodeObject(data, &b.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "currency":
			return decodeString(value, &b.Currency)
		case "total_balance":
			return decodeString(value, &b.Total)
		case "granted_balance":
			return decodeString(value, &b.Granted)
		case "topped_up_balance":
			return decodeString(value, &b.ToppedUp)
		}
		return false
	})
}

func (b *Balance) encode(w *jsonWriter) {
	o := w.object(b.Extra)
	o.bool("is_available", b.Available)
	if o.member("balance_infos") {
		elements(w, b.Infos, (*BalanceInfo).encode)
	}
	o.end()
}

func (b *BalanceInfo) encode(w *jsonWriter) {
	o := w.object(b.Extra)
	o.str("currency", b.Currency)
	o.str("total_balance", b.Total)
	o.str("granted_balance", b.Granted)
	o.str("topped_up_balance", b.ToppedUp)
	o.end()
}

// Balance returns the balance of an account. With several accounts it is that
// of the one which the transport picks for the call, at the first endpoint or at
// that of [OnEndpoint]. One without money is picked as well, but none that is put aside
// for another reason: if all are, the error matches [ErrNoAccount].
func (c *Client) Balance(ctx context.Context) (*Balance, error) {
	b := new(Balance)
	if _, _, err := c.call(ctx, "/user/balance", "", nil, b.decode); err != nil {
		return nil, err
	}
	return b, nil
}
