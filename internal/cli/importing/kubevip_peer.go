package importing

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/berth-lb/berth/api/v1beta1"
)

// kubeVIPOptions are what a peer of kube-vip's says beyond the session.
type kubeVIPOptions struct {
	multiProtocol bool
	bfd           *v1beta1.BFDProfileSpec
}

// kubeVIPPeer reads a peer as kube-vip's variable has it: ADDRESS:ASN:PASSWORD:MULTIHOP:PORT,
// then options of MP-BGP and of BFD. An IPv6 address stands in brackets; without an address it
// is unnumbered:INTERFACE.
func kubeVIPPeer(text string) (spec v1beta1.BGPPeerSpec, options kubeVIPOptions, err error) {
	rest, unnumbered := strings.CutPrefix(text, "unnumbered:")
	var fields []string
	if address, behind, bracket := strings.Cut(rest, "]"); bracket && strings.HasPrefix(address, "[") {
		fields = append([]string{address[1:]}, strings.Split(strings.TrimPrefix(behind, ":"), ":")...)
	} else {
		fields = strings.Split(rest, ":")
	}
	field := func(i int) string {
		if i < len(fields) {
			return fields[i]
		}
		return ""
	}
	if unnumbered {
		spec.Interface = field(0)
	} else if _, err := netip.ParseAddr(field(0)); err != nil {
		return spec, options, fmt.Errorf("%q is no IP address", field(0))
	} else {
		spec.PeerAddress = field(0)
	}
	if text := field(1); text != "" && text != "0" {
		asn, err := strconv.ParseUint(text, 10, 32)
		if err != nil || asn == 0 {
			return spec, options, fmt.Errorf("%q is no AS number", text)
		}
		spec.PeerASN = int64(asn)
	} else if unnumbered {
		spec.DynamicASN = v1beta1.DynamicASNExternal
	} else {
		return spec, options, errors.New("it has no AS number")
	}
	spec.Password = field(2)
	if text := field(3); text != "" {
		if spec.EBGPMultiHop, err = strconv.ParseBool(text); err != nil {
			return spec, options, fmt.Errorf("%q is neither true nor false", text)
		}
	}
	if text := field(4); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil || port == 0 {
			return spec, options, fmt.Errorf("%q is no port", text)
		}
		spec.PeerPort = int32(port)
	}
	options.multiProtocol = field(5) != ""
	options.bfd, err = kubeVIPBFD(field(6))
	return spec, options, err
}

// kubeVIPBFD reads ENABLED;RECEIVE;TRANSMIT;MULTIPLIER, with times in milliseconds.
func kubeVIPBFD(text string) (*v1beta1.BFDProfileSpec, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ";")
	if enabled, err := strconv.ParseBool(parts[0]); err != nil || !enabled {
		return nil, err
	}
	values := [3]int32{300, 300, 3}
	for i, part := range parts[1:] {
		if i >= len(values) || part == "" {
			continue
		}
		n, err := strconv.ParseInt(part, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", part)
		}
		values[i] = int32(n)
	}
	return &v1beta1.BFDProfileSpec{
		ReceiveInterval:  new(intstr.FromInt32(values[0])),
		TransmitInterval: new(intstr.FromInt32(values[1])),
		DetectMultiplier: &values[2],
	}, nil
}
