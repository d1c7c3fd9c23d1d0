"""What convolutions do, as sources that `translate` reads.

KIND stands for the type of numbers, SIZE for its bytes. `strips` is written for the
number of channels, by `images`. An entry's words are sizes, then addresses.
"""

from __future__ import annotations

PAD = """\
def padded(image: [KIND], to: [KIND], h: i8, row: i8, top: i8, left: i8, wide: i8):
    for i in range(h):
        for j in range(row):
            to[(i + top) * wide + left + j] = image[i * row + j]


"""

CONV = """\
def entry(words: [i8], job: i8):
    jobs, n, h, w, c, oh = words[0], words[1], words[2], words[3], words[4], words[5]
    ow, o = words[6], words[7]
    kh, kw, sy, sx, top, left = words[8], words[9], words[10], words[11], words[12], words[13]
    pads = words[14]
    dy, dx, groups, ph, pw = words[15], words[16], words[17], words[18], words[19]
    biased = words[20]
    x, weight, bias, y, held = words[21], words[22], words[23], words[24], words[25]
    each, own = c // groups, o // groups
    mode = flush_subnormals()
    for q in range(n * job // jobs, n * (job + 1) // jobs):
        image = x + SIZE * q * h * w * c
        if pads != 0:
            to = held + SIZE * job * ph * pw * c
            padded(memory(KIND, image), memory(KIND, to), h, w * c, top, left * c, pw * c)
            image = to
        for i in range(oh):
            line = y + SIZE * (q * oh + i) * ow * o
            if biased != 0:
                first, begin = memory(KIND, line), memory(KIND, bias)
                for t in range(ow):
                    for k in range(o):
                        first[t * o + k] = begin[k]
            seen = image + SIZE * i * sy * pw * c
            if groups == 1 and dx == 1:
                strips(seen, SIZE * sx * c, SIZE * dy * pw * c, SIZE, weight, SIZE * o, line,
                       SIZE * o, ow, o, kh, kw * c, biased)
            else:
                for g in range(groups):
                    for r in range(kh):
                        adds = biased + r
                        strips(seen + SIZE * (r * dy * pw * c + g * each), SIZE * sx * c,
                               SIZE * dx * c, SIZE, weight + SIZE * (r * kw * each * o + g * own),
                               SIZE * o, line + SIZE * g * own, SIZE * o, ow, own, kw, each, adds)
    restore(mode)
"""

CONV_WEIGHT = """\
def entry(words: [i8], job: i8):
    jobs, n, h, w, c, oh = words[0], words[1], words[2], words[3], words[4], words[5]
    ow, o = words[6], words[7]
    kh, kw, sy, sx, top, left = words[8], words[9], words[10], words[11], words[12], words[13]
    pads = words[14]
    dy, dx, groups, ph, pw = words[15], words[16], words[17], words[18], words[19]
    whole = words[20]
    x, grad, held, shares = words[21], words[22], words[23], words[24]
    each, own = c // groups, o // groups
    share = shares + SIZE * job * whole
    mode = flush_subnormals()
    sums = memory(KIND, share)
    for k in range(whole):
        sums[k] = 0
    for q in range(n * job // jobs, n * (job + 1) // jobs):
        image, g0 = x + SIZE * q * h * w * c, grad + SIZE * q * oh * ow * o
        if pads != 0:
            to = held + SIZE * job * ph * pw * c
            padded(memory(KIND, image), memory(KIND, to), h, w * c, top, left * c, pw * c)
            image = to
        for r in range(kh):
            seen = image + SIZE * r * dy * pw * c
            if groups == 1 and dx == 1:
                strips(seen, SIZE, SIZE * sy * pw * c, SIZE * sx * c, g0, SIZE * o,
                       share + SIZE * r * kw * c * o, SIZE * o, kw * c, o, oh, ow, i8(1))
            else:
                for g in range(groups):
                    for s in range(kw):
                        strips(seen + SIZE * (s * dx * c + g * each), SIZE, SIZE * sy * pw * c,
                               SIZE * sx * c, g0 + SIZE * g * own, SIZE * o,
                               share + SIZE * ((r * kw + s) * each * o + g * own), SIZE * o, each,
                               own, oh, ow, i8(1))
    restore(mode)
"""

ADD_SHARES = """\
@glue
def entry(words: [i8], job: i8):
    jobs, whole = words[0], words[1]
    add(jobs, whole * job // words[2], whole * (job + 1) // words[2], whole, words[3],
        memory(KIND, words[4]), memory(KIND, words[5]))
"""
ADD = """\
def add(shares: i8, first: i8, last: i8, whole: i8, more: i8, s: [KIND], out: [KIND]):
    if more == 0:
        for k in range(first, last):
            out[k] = 0
    for p in range(shares):
        for k in range(first, last):
            out[k] += s[p * whole + k]


"""

PACK = """\
def turn(a: [KIND], b: [KIND], c: i8, wide: i8, o: i8):
    for k in range(o):
        for i in range(c):
            b[k * c + i] = a[i * wide + k]


def entry(words: [i8], job: i8):
    kh, kw, c, o, sy, sx = words[0], words[1], words[2], words[3], words[4], words[5]
    groups, plain, weight, packed = words[6], words[7], words[8], words[9]
    own = o // groups
    to = i8(0)
    if plain != 0:
        for ry in range(sy):
            for rx in range(sx):
                ny, nx = (kh - ry + sy - 1) // sy, (kw - rx + sx - 1) // sx
                for i in range(ny):
                    for j in range(nx):
                        at = (ry + (ny - 1 - i) * sy) * kw + rx + (nx - 1 - j) * sx
                        turn(memory(KIND, weight + SIZE * at * c * o),
                             memory(KIND, packed + SIZE * to), c, o, o)
                        to = to + c * o
    else:
        for at in range(kh * kw):
            for g in range(groups):
                turn(memory(KIND, weight + SIZE * (at * c * o + g * own)),
                     memory(KIND, packed + SIZE * to), c, o, own)
                to = to + c * own
"""

CONV_INPUT = """\
def entry(words: [i8], job: i8):
    jobs, n, h, w, c, oh = words[0], words[1], words[2], words[3], words[4], words[5]
    ow = words[6]
    o, kh, kw, sy, sx, top = words[7], words[8], words[9], words[10], words[11], words[12]
    left = words[13]
    ph, pw, my, mx, dy, dx = words[14], words[15], words[16], words[17], words[18], words[19]
    groups = words[20]
    plain, grad, packed, out, held = words[21], words[22], words[23], words[24], words[25]
    each, own = c // groups, o // groups
    mode = flush_subnormals()
    to = held + SIZE * job * ph * pw * o
    for q in range(n * job // jobs, n * (job + 1) // jobs):
        padded(memory(KIND, grad + SIZE * q * oh * ow * o), memory(KIND, to), oh, ow * o, my,
               mx * o, pw * o)
        weight = i8(0) + packed
        for ry in range(sy):
            for rx in range(sx):
                ny, nx = (kh - ry + sy - 1) // sy, (kw - rx + sx - 1) // sx
                y0, x0 = (ry - top + sy * top) % sy, (rx - left + sx * left) % sx
                uy, ux = (y0 + top - ry) // sy, (x0 + left - rx) // sx
                m = (w - x0 + sx - 1) // sx
                for u in range((h - y0 + sy - 1) // sy):
                    line = out + SIZE * ((q * h + y0 + u * sy) * w + x0) * c
                    if plain != 0 and ny > 0 and nx > 0 and m > 0:
                        strips(to + SIZE * ((u + uy - ny + 1 + my) * pw + ux - nx + 1 + mx) * o,
                               SIZE * o, SIZE * pw * o, SIZE, weight, SIZE * c, line, SIZE * sx * c,
                               m, c, ny, nx * o, i8(0))
                    else:
                        first = memory(KIND, line)
                        for t in range(m):
                            for k in range(c):
                                first[t * sx * c + k] = 0
                        if plain == 0 and m > 0:
                            for r in range(kh):
                                fy = y0 + top - r * dy + sy * dy * kh
                                for s in range(kw):
                                    fx = x0 + left - s * dx + sx * dx * kw
                                    if fy % sy == 0 and fx % sx == 0:
                                        seen = to + SIZE * ((u + fy // sy - dy * kh + my) * pw
                                                            + fx // sx - dx * kw + mx) * o
                                        for g in range(groups):
                                            strips(seen + SIZE * g * own, SIZE * o, i8(0), SIZE,
                                                   packed + SIZE * ((r * kw + s) * groups + g)
                                                   * own * each, SIZE * each,
                                                   line + SIZE * g * each, SIZE * sx * c, m, each,
                                                   i8(1), own, i8(1))
                weight = weight + SIZE * ny * nx * c * o
    restore(mode)
"""

DEPTHWISE = """\
def entry(words: [i8], job: i8):
    jobs, n, h, w, c, oh = words[0], words[1], words[2], words[3], words[4], words[5]
    ow = words[6]
    kh, kw, sy, sx, top, left = words[7], words[8], words[9], words[10], words[11], words[12]
    dy, dx = words[13], words[14]
    biased, whole, bias = words[15], words[16], words[19]
    a, b, to = memory(KIND, words[17]), memory(KIND, words[18]), words[20]
    mode = flush_subnormals()
    sums = memory(KIND, to)
    BEGIN
    for q in range(n * job // jobs, n * (job + 1) // jobs):
        IMAGE
        for i in range(oh):
            for t in range(ow):
                at = ((q * oh + i) * ow + t) * c
                PLACE
                for r in range(kh):
                    y = i * sy + r * dy - top
                    for s in range(kw):
                        x = t * sx + s * dx - left
                        if y >= 0 and y < h and x >= 0 and x < w:
                            TAP(((q * h + y) * w + x) * c, at, (r * kw + s) * c, c, a, b, sums)
    restore(mode)
"""
ALONG = """\
def zero(first: i8, n: i8, a: [KIND]):
    for k in range(n):
        a[first + k] = 0


def begin(first: i8, n: i8, a: [KIND], b: [KIND]):
    for k in range(n):
        a[first + k] = b[k]


@contract
def forward(pixel: i8, place: i8, tap: i8, c: i8, a: [KIND], b: [KIND], out: [KIND]):
    for k in range(c):
        out[place + k] += a[pixel + k] * b[tap + k]


@contract
def back(pixel: i8, place: i8, tap: i8, c: i8, a: [KIND], b: [KIND], out: [KIND]):
    for k in range(c):
        out[pixel + k] += a[place + k] * b[tap + k]


@contract
def weigh(pixel: i8, place: i8, tap: i8, c: i8, a: [KIND], b: [KIND], out: [KIND]):
    for k in range(c):
        out[tap + k] += a[pixel + k] * b[place + k]


"""
PARTS = {
    "conv": (
        "forward",
        "",
        "",
        "if biased != 0:\n                    begin(at, c, sums, memory(KIND, bias))\n"
        "                else:\n                    zero(at, c, sums)",
    ),
    "conv_input": ("back", "", "zero(q * h * w * c, h * w * c, sums)", ""),
    "conv_weight": (
        "weigh",
        "sums = memory(KIND, to + SIZE * job * whole)\n    zero(i8(0), whole, sums)",
        "",
        "",
    ),
}
"""Of depthwise convolutions what is done for each pixel of a window, and before jobs, images and
places begin."""
