package statuspage

// Viewers is how many watch.
func (p *Page) Viewers() int {
	p.feed.mu.Lock()
	defer p.feed.mu.Unlock()
	return p.feed.viewers
}

// Idle reports whether nothing is kept for viewers.
func (p *Page) Idle() bool {
	p.feed.mu.Lock()
	defer p.feed.mu.Unlock()
	return p.feed.last == nil
}
