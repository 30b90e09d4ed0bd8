# Reads the lines of the peers' benchmark, prints a table of ratios to the C program `b` in Markdown, and writes a plot
# of the same into the file SVG. OWN, PEERS, WORKLOADS: the names to show, separated by commas, in order.

function number(key) {
    if (!match($0, "\"" key "\":[-0-9.e+]+")) return ""
    return substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0
}

function text(key) {
    if (!match($0, "\"" key "\":\"[^\"]*\"")) return ""
    return substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5)
}

# The median of a list of numbers with spaces in between; "" of none.
function median(list,    values, count, i, j, value) {
    count = split(list, values, " ")
    if (count == 0) return ""
    for (i = 2; i <= count; i++) {
        value = values[i] + 0
        for (j = i - 1; j >= 1 && values[j] + 0 > value; j--) values[j + 1] = values[j]
        values[j + 1] = value
    }
    return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
}

function short(value) {
    if (value == "") return ""
    return value >= 100 ? sprintf("%.0f", value) : value >= 9.95 ? sprintf("%.1f", value) : sprintf("%.2f", value)
}

{
    id = text("id")
    peer = text("peer")
    # Ratios are taken within a pair of neighbouring runs; of memory, within a round.
    run = id == "idle" ? number("round") : number("seq")
    value = number(id == "idle" ? "kib_per_conn_10000" : "srv_cpu_us")
    if (value == "") next
    if (!((id, run) in seen)) {
        seen[id, run] = 1
        runs[id] = runs[id] " " run
    }
    cost[id, peer, run] = value
    if (peer == "b") all[id] = all[id] " " value
    if (number("round") > rounds) rounds = number("round")
}

function ratio(id, peer,    list, each, count, run, i) {
    count = split(runs[id], each, " ")
    for (i = 1; i <= count; i++) {
        run = each[i]
        if ((id, peer, run) in cost && (id, "b", run) in cost && cost[id, "b", run] > 0)
            list = list " " cost[id, peer, run] / cost[id, "b", run]
    }
    return median(list)
}

function grouped(digits) {
    return length(digits) > 3 ? substr(digits, 1, length(digits) - 3) "," substr(digits, length(digits) - 2) : digits
}

function title(id) {
    if (id == "idle") return "idle peer, memory (10,000 peers)"
    if (id ~ /^many-/) return grouped(substr(id, 6)) " peers, echo of 64 bytes"
    if (id == "rtt-1cpu") return "one peer, echo of 64 bytes"
    if (id ~ /^sink-/) return "one way, " substr(id, 6) " bytes"
    if (id == "hs-psk-32") return "handshake, pre-shared key"
    if (id == "hs-ecdsa-32") return "handshake, ECDSA"
    if (id == "hs-resume-32") return "handshake, resumed"
    return id
}

function describe(peer) {
    if (peer == "udp") return "plain UDP"
    if (peer == "c-mmsg") return "C, recvmmsg"
    if (peer == "c-gro") return "C, GRO/GSO"
    if (peer == "d") return "C, records detached"
    if (peer == "d-gro") return "C, detached, GRO/GSO"
    if (peer == "gnutls") return "GnuTLS"
    if (peer == "mbedtls") return "Mbed TLS"
    if (peer == "wolfssl") return "wolfSSL"
    if (peer ~ /^pion/) return "pion v" substr(peer, 5)
    if (peer == "java") return "Java"
    if (peer ~ /^swift-.*-openssl$/) return "swift-dtls, " substr(peer, 7, length(peer) - 14) ", libssl"
    if (peer ~ /^swift-/) return "swift-dtls, " substr(peer, 7)
    return peer
}

END {
    workloads = split(WORKLOADS, workload, ",")
    names = split(OWN "," PEERS, name, ",")
    own = split(OWN, _, ",")
    # Only those of whom there is anything.
    shown = 0
    for (i = 1; i <= names; i++) {
        for (j = 1; j <= workloads; j++) if (ratio(workload[j], name[i]) != "") break
        if (j <= workloads) { show[++shown] = name[i]; isOwn[shown] = i <= own }
    }
    print "Server CPU for each operation, as a ratio to the C program on the same OpenSSL (`b`, one UDP socket, `recvfrom` and `sendto`):"
    print "medians of " rounds " rounds, each ratio taken within a pair of neighbouring runs, on " VERSION ". Less is better.\n"
    line = "| workload | b, µs |"
    rule = "|---|---|"
    for (i = 1; i <= shown; i++) { line = line " " describe(show[i]) " |"; rule = rule "---|" }
    print line "\n" rule
    for (j = 1; j <= workloads; j++) {
        if (!(workload[j] in all)) continue
        line = "| " title(workload[j]) " | " short(median(all[workload[j]])) (workload[j] == "idle" ? " KiB" : "") " |"
        for (i = 1; i <= shown; i++) line = line " " short(ratio(workload[j], show[i])) " |"
        print line
    }
    if (SVG) plot()
}

# A panel of bars for each workload, two beside each other. What is longer than the panel ends in its figure alone.
function plot(    i, j, count, panel, column, x, y, value, width, height, rows, most, scale, colour) {
    most = 3
    scale = 240 / most
    height = shown * 16 + 44
    for (j = 1; j <= workloads; j++) if (workload[j] in all) rows++
    rows = int((rows + 1) / 2)
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"940\" height=\"%d\" viewBox=\"0 0 940 %d\"", rows * height + 34, rows * height + 34 > SVG
    print " font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\">" > SVG
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>" > SVG
    print "<text x=\"10\" y=\"20\" font-size=\"13\">Server CPU for each operation, as a ratio to a C program on the same OpenSSL (1; less is better)</text>" > SVG
    panel = 0
    for (j = 1; j <= workloads; j++) {
        if (!(workload[j] in all)) continue
        column = panel % 2
        x = 140 + column * 470
        y = 34 + int(panel / 2) * height
        panel++
        count = 0
        for (i = 1; i <= shown; i++) if (ratio(workload[j], show[i]) != "") count++
        printf "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"black\" stroke-dasharray=\"3 2\"/>\n", \
            x + scale, y + 22, x + scale, y + 24 + count * 16 > SVG
        printf "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", x, y + 16, title(workload[j]) > SVG
        for (i = 1; i <= shown; i++) {
            value = ratio(workload[j], show[i])
            if (value == "") continue
            y += 16
            width = (value < most ? value : most) * scale
            colour = isOwn[i] ? "#e8590c" : "#8ba3b8"
            printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", x - 5, y + 18, describe(show[i]) > SVG
            printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"12\" fill=\"%s\"/>", x, y + 8, width, colour > SVG
            printf "<text x=\"%.1f\" y=\"%d\" paint-order=\"stroke\" stroke=\"white\" stroke-width=\"3\">%s</text>\n", x + width + 4, y + 18, short(value) > SVG
        }
    }
    print "</svg>" > SVG
}
