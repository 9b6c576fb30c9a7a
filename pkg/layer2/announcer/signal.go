package announcer

// signal puts a value into a channel of one that has none.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
