"""What pooling and scatter-adds do, as sources that `translate` reads, like `conv_sources`.

`pools` and `spreads` are written for the number of channels, by `images`.
"""

from __future__ import annotations

MAX_POOL = """\
def entry(words: [i8], job: i8):
    jobs, n, h, w, c, oh = words[0], words[1], words[2], words[3], words[4], words[5]
    ow = words[6]
    kh, kw, sy, sx, top, left = words[7], words[8], words[9], words[10], words[11], words[12]
    dy, dx = words[13], words[14]
    x, y, where = words[15], words[16], words[17]
    for q in range(n * job // jobs, n * (job + 1) // jobs):
        for i in range(oh):
            r0 = (top - i * sy + dy - 1) // dy if top > i * sy else i8(0)
            r1 = (h - 1 + top - i * sy) // dy + 1
            r1 = r1 if r1 < kh else kh
            for t in range(ow):
                s0 = (left - t * sx + dx - 1) // dx if left > t * sx else i8(0)
                s1 = (w - 1 + left - t * sx) // dx + 1
                s1 = s1 if s1 < kw else kw
                at = ((q * h + i * sy + r0 * dy - top) * w + t * sx + s0 * dx - left) * c
                place = ((q * oh + i) * ow + t) * c
                pools(x + SIZE * at, SIZE * dy * w * c, SIZE * dx * c, r1 - r0, s1 - s0,
                      r0 * kw + s0, kw, y + SIZE * place, where + place, c)
"""

MAX_POOL_INPUT = """\
def zero(first: i8, n: i8, a: [KIND]):
    for k in range(n):
        a[first + k] = 0


def entry(words: [i8], job: i8):
    jobs, n, h, w, c, oh = words[0], words[1], words[2], words[3], words[4], words[5]
    ow = words[6]
    kh, kw, sy, sx, top, left = words[7], words[8], words[9], words[10], words[11], words[12]
    dy, dx = words[13], words[14]
    grad, where, out = words[15], words[16], words[17]
    for q in range(n * job // jobs, n * (job + 1) // jobs):
        zero(q * h * w * c, h * w * c, memory(KIND, out))
        for i in range(oh):
            for t in range(ow):
                place = ((q * oh + i) * ow + t) * c
                for r in range(kh):
                    y = i * sy + r * dy - top
                    for s in range(kw):
                        x = t * sx + s * dx - left
                        if y >= 0 and y < h and x >= 0 and x < w:
                            spreads(grad + SIZE * place, where + place, r * kw + s,
                                    out + SIZE * ((q * h + y) * w + x) * c, c)
"""

ADD_ROWS = """\
def add(row: [KIND], to: [KIND], n: i8):
    for k in range(n):
        to[k] += row[k]


def entry(words: [i8], job: i8):
    jobs, count, columns, rows, out = words[0], words[1], words[2], words[4], words[5]
    index = memory(i8, words[3])
    first, last = columns * job // jobs, columns * (job + 1) // jobs
    for t in range(count):
        add(memory(KIND, rows + SIZE * (t * columns + first)),
            memory(KIND, out + SIZE * (index[t] * columns + first)), last - first)
"""
