package main

// What the controller may do. The roles in the manifests are generated from
// these lines.
//
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=berth.io,resources=ipaddresspools;l2advertisements;bgppeers;bgpadvertisements;bfdprofiles;communities,verbs=get;list;watch
// +kubebuilder:rbac:groups=berth.io,resources=ipaddresspools/status;l2advertisements/status;bgppeers/status;bgpadvertisements/status;bfdprofiles/status;communities/status,verbs=update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
//
// Speakers say which BGPPeers cannot be in force on their nodes. When a node is
// not ready, its Speaker may say what no longer holds.
// +kubebuilder:rbac:groups=berth.io,resources=speakers,verbs=get;list;watch
// +kubebuilder:rbac:groups=berth.io,resources=speakers/status,verbs=patch
//
// It compares the definitions of its kinds with its own.
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,resourceNames=ipaddresspools.berth.io;l2advertisements.berth.io;bgppeers.berth.io;bgpadvertisements.berth.io;bfdprofiles.berth.io;communities.berth.io;speakers.berth.io,verbs=get
//
// Its metrics are shown to those whom the API server lets read /metrics.
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
//
// In its own namespace: it fills the member Secret, which the install creates
// empty, and one replica leads.
// +kubebuilder:rbac:groups="",namespace=berth-system,resources=secrets,resourceNames=berth-memberlist,verbs=get;update
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=berth-system,resources=leases,verbs=create
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=berth-system,resources=leases,resourceNames=berth-controller,verbs=get;update
// +kubebuilder:rbac:groups="",namespace=berth-system,resources=events,verbs=create;patch
