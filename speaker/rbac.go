package main

// What a speaker may do. The roles in the manifests are generated from these
// lines.
//
// +kubebuilder:rbac:groups="",resources=services;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=berth.io,resources=ipaddresspools;l2advertisements;bgppeers;bgpadvertisements;bfdprofiles;communities,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
//
// A ValidatingAdmissionPolicy narrows this to the Speaker of its own node.
// +kubebuilder:rbac:groups=berth.io,resources=speakers,verbs=get;list;watch;create
// +kubebuilder:rbac:groups=berth.io,resources=speakers/status,verbs=update
//
// To ask the API server who may read /metrics.
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
//
// In its own namespace: the key that encrypts the traffic among speakers, and
// the passwords of BGP peers. BGPPeers name their Secrets, so no name can be
// given here.
// +kubebuilder:rbac:groups="",namespace=berth-system,resources=secrets,verbs=get;list;watch
