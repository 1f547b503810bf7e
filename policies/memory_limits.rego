# METADATA
# title: Main containers have a memory limit
# description: |
#   A model server without a memory limit takes its whole node down when it loads a
#   model that does not fit. Judges main containers; init and ephemeral ones end.
# related_resources:
#   - ref: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
#     description: Resource management for pods and containers
# schemas:
#   - input: schema.input
# custom:
#   id: memory-limits
#   severity: medium
#   remedy: set resources.limits.memory to what the model needs
#   scope: model-pod
#   workloads: [inference, training, batch]
package tidewaiter.memory_limits

findings contains finding if {
	some container in input.containers
	container.kind == "containers"
	not container.resources.limits.memory
	finding := {
		"path": sprintf("%s.resources.limits", [container.path]),
		"container": object.get(container, "name", ""),
		"message": "no memory limit is set",
		"remedy": "set resources.limits.memory to what the model needs",
	}
}
