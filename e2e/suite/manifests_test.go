package suite

import "fmt"

// pool is an IPAddressPool with an L2Advertisement of the same name that
// announces it from the named nodes, or all.
func pool(name, addresses string, nodes ...string) string {
	selectors := "[]"
	if len(nodes) > 0 {
		selectors = fmt.Sprintf(
			"[{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: %s}]}]",
			toJSON(nodes),
		)
	}
	return fmt.Sprintf(`
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: %[1]s}
spec: {addresses: [%[2]s]}
---
apiVersion: berth.io/v1beta1
kind: L2Advertisement
metadata: {name: %[1]s}
spec: {ipAddressPools: [%[1]s], nodeSelectors: %[3]s}
`, name, addresses, selectors)
}

// web is a Deployment of one pod on each of the named nodes. A pod that is
// told to stop goes on serving for a moment.
func web(name string, nodes ...string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  strategy: {rollingUpdate: {maxSurge: 100%%, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: %[3]s}]
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: %[1]s}}
        matchLabelKeys: [pod-template-hash]
      tolerations: [{operator: Exists, effect: NoExecute, tolerationSeconds: 3}]
      containers:
      - name: web
        image: lab.test/web:1
        # A pod that asks for nothing waits for hundreds of milliseconds while containers start on the same
        # processors.
        resources: {requests: {cpu: 100m}}
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`, name, len(nodes), toJSON(nodes))
}

// service is a Service of type LoadBalancer for the pods of a Deployment.
// more is added to its spec.
func service(name, app, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  type: LoadBalancer
  selector: {app: %s}
  ports: [{name: http, port: 80, targetPort: 8080}]
  %s
`, name, app, more)
}
