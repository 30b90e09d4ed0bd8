// The link that the tests run over is the one that users get.
@_exported public import DTLSTestKit

package typealias LossyLink = DtlsTestLink
package typealias LinkConditions = DtlsLinkConditions
