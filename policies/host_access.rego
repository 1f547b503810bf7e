# METADATA
# title: No pod reaches into its node
# description: |
#   Judges host namespaces, privileged containers, hostPath volumes and host ports of every
#   pod in a namespace with an environment, whether or not it is known as a model pod. Paths
#   that may be mounted are listed in `settings.host_access.allowed_paths` in data.yaml.
# related_resources:
#   - ref: https://kubernetes.io/docs/concepts/security/pod-security-standards/
#     description: Pod Security Standards
# schemas:
#   - input: schema.input
# custom:
#   id: host-access
#   severity: high
#   remedy: remove it; ask for an exception if the pod is part of the cluster
#   scope: every-pod
package tidewaiter.host_access

import data.settings.host_access.allowed_paths

flags := {"hostNetwork", "hostPID", "hostIPC"}

findings contains finding if {
	some flag in flags
	input.spec[flag]
	finding := {
		"path": sprintf("spec.%s", [flag]),
		"message": sprintf("%s is true", [flag]),
		"remedy": "remove it; ask for an exception if the pod is part of the cluster",
	}
}

findings contains finding if {
	some container in input.containers
	container.privileged
	finding := {
		"path": sprintf("%s.securityContext.privileged", [container.path]),
		"container": object.get(container, "name", ""),
		"message": "the container is privileged",
		"remedy": "remove it; a GPU needs no privilege, its device plugin hands it over",
	}
}

findings contains finding if {
	some volume in input.spec.volumes
	path := object.get(volume.hostPath, "path", "")
	not path in allowed_paths
	finding := {
		"path": sprintf("spec.volumes[%d]", [volume.index]),
		"message": sprintf("volume \"%s\" mounts %s of the node", [volume.name, path]),
		"remedy": "use a PersistentVolumeClaim or an emptyDir",
	}
}

findings contains finding if {
	some container in input.containers
	some port in container.ports
	port.hostPort > 0
	finding := {
		"path": sprintf("%s.ports", [container.path]),
		"container": object.get(container, "name", ""),
		"message": sprintf("host port %d is used", [port.hostPort]),
		"remedy": "use a Service",
	}
}
