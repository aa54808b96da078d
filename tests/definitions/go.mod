// Modules that hold the custom resource definitions of what dynawatt lives with. Nothing is built of them.
module dynawatt.dev/tests/definitions

go 1.26.0

require (
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	k8s.io/autoscaler/vertical-pod-autoscaler v1.8.1
)
