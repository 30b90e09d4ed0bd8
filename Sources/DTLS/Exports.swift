// Whoever imports DTLS gets the values that DTLSCore defines: configurations, credentials, errors, alerts.
@_exported public import DTLSCore
