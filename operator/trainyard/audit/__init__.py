"""The audit trail: one record before and one after each request to a platform, whoever caused it."""

from trainyard.audit.context import ResourceRef, audit_context
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds

__all__ = ["AuditLog", "AuditedAdapter", "Bounds", "ResourceRef", "audit_context"]
