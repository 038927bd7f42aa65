"""Cleaning: residue goes, text stays, twice is as good as once, and every reject has its reason."""

import dataclasses
import json
import lzma
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_tools.build import build
from data_tools.documents.clean import STEPS, CleanConfig, clean
from data_tools.documents.filters import FilterConfig, rejections, repeated_grams, repeated_lines
from data_tools.documents.personal import replace_personal
from data_tools.documents.roff import strip_roff
from data_tools.shards.manifest import Manifest
from data_tools.text.normalization import canonical_paragraphs
from data_tools.text.sentences import code_points

SAMPLE = next(
    (found for folder in Path(__file__).parents if (found := folder / "shared/corpus/sample.jsonl.xz").exists()), None
)


@pytest.mark.parametrize(
    "text",
    [
        "若 a < b 且 c > d，则 a<b，f<x>(y)。",
        "用 std::vector<int> 和 #include <stdio.h>，C++ 与 C# 都行；AT&T、R&D 和 x&y; 照旧。",
        "#春节快乐# 大家好 #新年# [爱你](哈哈) [泪](T.T) [笑][哭] **",
        "变量 user_name、__init__ 和 _x_，乘积 2*3*4=24 与 a*b*c，指针 int *p, *q。",
        "<用户名>@<主机名>，o>_<o，<(￣︶￣)>，->，<-",
        "圆周率3.14159265358979，ISBN 978-7-111-12345-6，从1998-12-30到2000年，单号 123456789012345678。",
        "链接 https://a.cn/13812345678/@someone/x?q=021-54065110 不动；npm 包 @babel/core；@media (max-width) 也不动。",
        "乾隆皇帝弹乾坤曲，宫商角徵羽，著名作家。",
        "第一章 总则\n第一条 为了保护人民，登录网站须实名。\n第二条 版权所有者应当返回首页登记。",
        "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。\n无人会登临意，\n把吴钩看了。",
        "大米 300 g\n水 310 ml\n青菜 400 g\n咸肉 150 g\n冬笋 100 g\n白糖\n盐",
        "姓名|年龄|城市|职业|备注",
        "矩阵 |A|+|B|+|C|+|D| 的值",
        ".5 是二分之一\n'引号' 开头的行",
        "他说：“好——”‘是’…",
    ],
)
def test_text_that_only_looks_like_markup_is_left_alone(text):
    assert clean(text, CleanConfig()) == text


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        ("html", "<p><strong>快讯</strong>：今天<br/>晴&nbsp;朗。</p>\n<p>明天</p>", "快讯：今天\n晴 朗。\n\n明天"),
        ("html", "&lt;h2&gt;关于&lt;/h2&gt;&amp;nbsp;&#8220;我们&#x201d;", "关于\n “我们”"),
        ("html", "一<!-- 注 -->二<script>if (a<b) x()</script>三<STYLE>p{}</STYLE>四", "一二三四"),
        ("html", "它<ruby>序言<rt>prologue</rt></ruby>里", "它序言（prologue）里"),
        ("html", '<td>一</td><td>二</td><a href="x>y" target=_blank>三</a>', " 一 二三"),
        ("html", "<a class这几年，<img data-rawwidth评论", "这几年，评论"),
        ("html", "写 `<script>` 和 `</script>`，```\n<html>\n``` 一段",
         "写 `<script>` 和 `</script>`，```\n<html>\n``` 一段"),
        ("html", "标签 `<div>` 与 <b>粗</b>", "标签 `<div>` 与 粗"),
        (
            "html",
            "<html><head><title>题\n 目</title><script>x</script></head><body><ul><li><a href='/'>首页</a> |\n"
            "<a>新闻</a></li></ul><p>正文\n  一段，见<a>这里</a>。</p>"
                "<dl><dt>作者：</dt><dd><a>张</a></dd></dl></body></html>",
            "题 目\n正文 一段，见这里。\n作者： 张",
        ),
        (
            "roff",
            '.\\" 注释\n.TH LS 1 "日期"\n.SH 名称\nls \\- 列出\n.PP\n这是\\fB粗\\fR体，\n接着写 \\(co \\*(Ts。\n'
            '.TP\n.BR \\-a ", " \\-\\-all\n不隐藏。\n.IP "\\fB-l\\fP" 4\n长格式\n.nf\n  a  b\nc\n.fi\n完',
            "名称\nls - 列出\n这是粗体，接着写 © 。\n-a, --all\n不隐藏。\n-l\n长格式\na  b\nc\n完",
        ),
        (
            "markdown",
            "# 标题 #\n**重点**、*斜体*和`a_b`、`**x**`，[链接](http://a.b/c_(d))及![图](x.png)。\n- 项一\n- [x] 已办\n"
            "> 引用\n\n| 甲 | 乙 |\n|---|:-:|\n| 1 | 2 |\n***\n##无空格\n[文][1] <https://a.cn>\n[1]: http://a.cn\n~~删~~",
            "标题\n重点、斜体和a_b、**x**，链接及。\n项一\n已办\n引用\n\n甲 乙\n1 2\n无空格\n文 https://a.cn\n删",
        ),
        ("html", '<?xml version="1.0"?>\n<refpurpose xml:id="a" xmlns="u">抽象<xi:include x="y"/>类&a.b;</refpurpose>',
         "抽象类"),
        ("markdown", "---\ntitle: 文\nsummary: 摘要。\n---\n正文 **x**", "摘要。\n正文 x"),
        ("markdown", "---\ntitle: 文\ndate: 1\n---\n## 一\n```py\n# 注 **x**\n```\n尾", "一\n# 注 **x**\n尾"),
        ("markdown", "## 号\n#话题# 和 2*3*4，snake_case_x，__init__，__重要__，转义 \\*",
         "号\n#话题# 和 2*3*4，snake_case_x，__init__，重要，转义 *"),
        ("simplify", "臺灣的頭髮發展，乾隆與皇后\n乾坤，著名", "台湾的头发发展，乾隆与皇后\n乾坤，著名"),
        ("simplify", "匈奴人金日磾在墠上\n後與墠", "匈奴人金日磾在墠上\n后与墠"),
        ("simplify", "一生懸命だからこそ、投資する", "一生懸命だからこそ、投資する"),
        ("marks", "“好”——‘是’……–", '"好"--\'是\'......-'),
        ("boilerplate", "首页 > 新闻 > 国内\n正文在此。\n责任编辑：张三\nCopyright © 2016 某公司", "正文在此。"),
        ("boilerplate", "首页\n新闻\n登录\n注册\n正文在此。\n上一篇：甲\n返回顶部\n京ICP备12345号", "正文在此。"),
        ("boilerplate", "点赞。\n转发微博\n查看全文\n分享到：微信 QQ空间", "点赞。"),
    ],
)  # fmt: skip
def test_a_step_takes_its_residue_and_nothing_else(step, text, expected):
    assert re.sub("\n+", "\n", STEPS[step](text)).strip("\n") == re.sub("\n+", "\n", expected)
    off = CleanConfig(False, False, False, False, False, False, False)
    assert clean(text, off) == text


def test_hard_wrapped_lines_are_joined_and_paragraphs_stay():
    rng = random.Random(0)
    paragraphs = []
    for _ in range(6):
        words = [rng.choice(["春风", "，", "又绿", "江南岸", "明月", "何时", "照", "我还"]) for _ in range(120)]
        paragraphs.append("　　" + "".join(words) + "。")
    wrapped = [part[i : i + 35] for part in paragraphs for i in range(0, len(part), 35)]
    assert clean("\n".join(wrapped), CleanConfig()) == "\n".join(paragraphs)
    assert clean("\n".join(paragraphs), CleanConfig()) == "\n".join(paragraphs)


def test_personal_data_become_placeholders():
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    digits = "99000019900101001"  # a place that no one is from
    check = "10X98765432"[sum(int(d) * w for d, w in zip(digits, weights, strict=True)) % 11]
    text = "电话13800000000或+86 138-0000-0000，座机(010)62000000、0571-60000000，信箱a.b@example.com.cn，"
    text += f"证件{digits}{check}。"
    assert replace_personal(text) == "电话[电话]或[电话]，座机[电话]、[电话]，信箱[邮箱]，证件[证件号]。"
    wrong = "0" if check != "0" else "1"
    assert replace_personal(f"证件{digits}{wrong}。") == f"证件{digits}{wrong}。"
    assert (
        replace_personal("回复@小明_01:好 @Li-Lei，谢谢（@someone 投稿）") == "回复@用户:好 @用户，谢谢（@用户 投稿）"
    )
    assert replace_personal("赞//@小明:好@a_b@小红@丙") == "赞//@用户:好@用户@用户@丙"
    assert replace_personal("@property\n@override def f") == "@property\n@override def f"


PIECES = st.sampled_from(
    [*"<>&;#*_|`[]()!-=.'\\\n \u3000/:@0138", "&lt;", "&amp;", "<p>", "</p>", "<a href=x>", "<!--", "-->",
     "](http://a/b)",      "**", "\n# ", "\n.SH ", "\n.B ", "中文",
     "臺灣", "，", "。", "首页", "登录", "a", "13800000000", "@小明", "<script>"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=60).map("".join))
@settings(max_examples=300, deadline=None)
@example("<<p>p>好")
@example("&amp;amp;lt;p&gt;")
@pytest.mark.parametrize("step", ["html", "simplify", "boilerplate", "personal", "marks"])
def test_a_step_done_twice_is_the_step_done_once(step, text):
    once = STEPS[step](text)
    assert STEPS[step](once) == once


@given(st.text(max_size=300) | st.lists(PIECES, max_size=80).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_goes_through_the_same_way_each_time(text):
    assert clean(text, CleanConfig()) == clean(text, CleanConfig())
    assert set("“”‘’—–…").isdisjoint(clean(text, CleanConfig(marks="plain")))


@pytest.mark.parametrize(
    "unit",
    ["<", "<a ", "<a b c=d ", '<a b="', "<!--", "<script>", "&amp;", "amp;", "&lt;", "[", "[a](", "![a](x", "[a](/x",
     "`a ``", "**", "**a ", "*a ", "_a ", "(", "（1", "1 ", "138", "@", "@中文", "a@b.", "- ", "> ", "| ", "|-", "# ",
     "\\f", ".B a ", "　", "\n", " \n", "版权", "发", "首页|", "---\n", "字\n", "```\n"],
)  # fmt: skip
def test_no_text_takes_long(unit):
    """Time grows with the length: 100 kB of marks without an end, of any kind, take less than a second."""
    for head in ("", "&", "# 题\n", "--", ".SH \\\n", "<html>"):
        begin = time.process_time()
        clean(head + unit * (100_000 // len(unit)) + "字", CleanConfig())
        assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("短。", {}, "too short"),
        ("天地玄黄，宇宙洪荒，日月盈昃。", {"max_characters": 12}, "too long"),
        ("nothing here but english 中文", {}, "not Chinese"),
        ("この本を読まなかった場合の機会損失は無限大である", {}, "Japanese"),
        ("一样的一行文字在此。\n" * 9 + "另外的一行。", {}, "repeated lines"),
        ("买买买卖卖卖快来快来" * 30, {}, "repetitive"),
        ("天地玄黄，宇宙洪荒，日月盈昃，辰宿列张。", {}, None),
        ("一样的一行文字在此。\n" * 9, {"max_repeated_lines": 1.0, "max_repeated_grams": 1.0}, None),
    ],
)
def test_every_reject_has_its_reason(text, options, reason):
    assert rejections([text], FilterConfig(**options)) == [reason]
    other = "床前明月光，疑是地上霜。"
    assert rejections([other, text, "", text, other], FilterConfig(**options))[1:4] == [reason, "too short", reason]


def naive_rejection(text, config):
    """The reason by counting characters, lines and runs one by one."""
    chinese = sum("\u3400" <= c <= "\u9fff" or "\U00020000" <= c <= "\U000323af" for c in text)
    if len(text) < config.min_characters:
        return "too short"
    if chinese < config.min_chinese * sum(c > " " for c in text):
        return "not Chinese"
    if sum("\u3041" <= c <= "\u30fa" for c in text) > config.max_kana * chinese:
        return "Japanese"
    if repeated_lines(text) > config.max_repeated_lines:
        return "repeated lines"
    grams = [text[i : i + 8] for i in range(len(text) - 7)]
    repeated = (len(grams) - len(set(grams))) / len(grams) if len(grams) > 8 else 0
    return "repetitive" if repeated > config.max_repeated_grams else None


@given(
    st.lists(st.text(alphabet="甲乙丙丁𠀀かna\n ", max_size=60) | st.text(alphabet="甲乙", max_size=400), max_size=12),
    st.sampled_from([0.0, 0.05, 0.5, 0.9]),
)
@settings(deadline=None)
def test_documents_are_rejected_together_as_a_naive_count_rejects_each(texts, grams):
    config = FilterConfig(max_repeated_grams=grams, max_repeated_lines=0.5)
    assert rejections(texts, config) == [naive_rejection(text, config) for text in texts]


@given(st.text(alphabet="甲乙丙\n", max_size=200))
def test_repetition_is_what_a_naive_count_says(text):
    grams = [text[i : i + 8] for i in range(len(text) - 7)]
    expected = 1 - len(set(grams)) / len(grams) if len(text) >= 16 else 0
    assert repeated_grams(code_points(text)) == pytest.approx(expected)
    lines = text.split("\n")
    seen = [line for number, line in enumerate(lines) if line in lines[:number]]
    total = sum(map(len, lines))
    assert repeated_lines(text) == pytest.approx(sum(map(len, seen)) / total if total else 0)


def test_wrong_filters_are_named_together():
    with pytest.raises(ValueError, match=r"max_characters 5 is less.*min_chinese 2 is not a share"):
        FilterConfig(max_characters=5, min_chinese=2)


def test_a_build_cleans_as_its_manifest_says(corpus, tokenizer_folder, build_config, tmp_path):
    dirty = tmp_path / "dirty.jsonl"
    records = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    for record in records:
        record["text"] = "".join(f"<p>{line}</p>\n" for line in record["text"].split("\n"))
    dirty.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    build([dirty], tokenizer_folder, tmp_path / "a", build_config)
    build([corpus], tokenizer_folder, tmp_path / "b", build_config)
    build([dirty], tokenizer_folder, tmp_path / "c", dataclasses.replace(build_config, clean=CleanConfig(html=False)))
    cleaned, plain, kept = (Manifest.load(tmp_path / name) for name in "abc")
    assert [shard.sha256 for shard in cleaned.splits["train"].shards] == [
        s.sha256 for s in plain.splits["train"].shards
    ]
    assert kept.splits["train"].tokens > plain.splits["train"].tokens
    assert (kept.config["clean"]["html"], cleaned.config["clean"]["html"]) == (False, True)


RESIDUES = {  # what may be left, in parts per document: names in <> that are text, code in articles
    "tag": (r"</?(?:p|div|a|br|span|strong|td|li|ul|h\d|script)\b[^<>]*>", 3),
    "entity": (r"&(?:nbsp|lt|gt|amp|quot|middot|ldquo|rdquo|#\d+);", 0),
    "markdown link": (r"\]\([^)\s]*[/.]", 3),
    "heading": (r"^#{1,6} \S", 8),
    "strong": (r"\*\*[^\s*]", 8),
    "fence": (r"^\s*```", 0),
    "table": (r"^\s*\|.*\|\s*$", 3),
    "reference": (r"^\[[^\]]+\]: ", 0),
    "roff": (r"^\.(?:SH|TH|TP|PP|B|I|BR)\b|\\f[BIPR]", 0),
    "e-mail": (r"[\w.]+@\w+\.[a-z]{2,}", 3),
    "traditional": (r"[們這個國學說時會來對開關點樣還為發經過]", 0),
}


@pytest.mark.skipif(SAMPLE is None, reason="no real text in shared/corpus")
def test_real_text_comes_out_clean_and_whole():
    """Residue of each kind is under its bound, prose loses no Chinese character, and twice changes next to nothing."""
    assert SAMPLE is not None
    with lzma.open(SAMPLE) as stream:
        documents = [json.loads(line) for line in stream]
    texts = [clean(document["text"], CleanConfig()) for document in documents]
    canonical = [canonical_paragraphs(text) for text in texts]
    reasons = rejections(canonical, FilterConfig())
    kept = [text for text, reason in zip(canonical, reasons, strict=True) if reason is None]
    for name, (pattern, bound) in RESIDUES.items():
        found = [match[0] for text in kept for match in re.finditer(pattern, text, re.M)]
        assert len(found) <= bound, (name, len(found), found[:10])
    assert (
        sum(clean(text, CleanConfig()) != text for text in texts) <= 8
    )  # comments and tags in code, once its fences and ticks are gone
    chinese = re.compile("[\u4e00-\u9fff]")
    lost: dict[str, int] = {}
    for document, text in zip(documents, texts, strict=True):
        before, after = (len(chinese.findall(value)) for value in (document["text"], text))
        lost[document["source"]] = lost.get(document["source"], 0) + before - after
    for source in ("hist_niutrans_modern", "law_lawrefbook", "news_pd199801", "news_xwlb", "lit_prose", "acad_csl"):
        assert lost[source] == 0, (source, lost[source])


def test_tables_of_a_manual_page_keep_their_rows():
    page = ".SH 信号\n下表列出信号:\n.TS\nl c\nl l.\n信号\t说明\nSIGHUP\t\\fI挂起\\fP\n.TE\n默认动作\n如下.\n"
    cells = strip_roff(page).replace("\t", " ").splitlines()
    assert cells == ["信号", "下表列出信号:", "信号 说明", "SIGHUP 挂起", "默认动作如下."]
