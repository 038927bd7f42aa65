"""Lines of the page around a text: menus, breadcrumbs, copyright, share buttons, calls to scan and click."""

from __future__ import annotations

import re
from collections.abc import Callable

_LONGEST = 100
_RUN = 3  # menu entries that stand together, at least, to be a menu

# Whole lines. Each alternative says enough by itself: a sentence that only mentions 登录 or 版权 is text.
_BEGUN = re.compile(
    r"""[ \t\u3000>·•↑]*+(?:
      (?:copyright|©|\(c\)[ ]*(?:19|20)\d\d)[^。！？]*
    | (?:powered|hosted)\ by\ .{1,30}
    | [【（(]?(?:本文)?(?:责任编辑|责编)[:：】\])） ].{0,14}
    | (?:分享|转发|收藏|推荐)(?:到|给|至)[:：]?
      (?:[ /|、]*(?:微信|朋友圈|新浪|腾讯|微博|QQ|qq|空间|好友|人人网?|豆瓣|网易|更多)){0,14}
    | [上下]一[篇章页][:：]?.{0,40}
    | (?:返回|回到)(?:顶部|首页|目录|上一[页级]|列表)
    | (?:点击|点此|查看|阅读|展开|显示)(?:查看|阅读|加载|展开)?(?:更多|全文|原文|详情|知乎原文|大图|评论)[ >»…\.]*
    | (?:请)?(?:长按|扫描|扫一扫|微信扫)(?:识别)?(?:上方|下方|左侧|右侧|图中)?的?二维码.{0,20}
    | (?:立即|马上|点击|免费)?下载.{0,16}(?:客户端|APP)(?:.{0,8}(?:查看|阅读|接着看|更多).{0,14})?
    | 好玩！下载[ ]?App[ ]?接着看.{0,12} | 再逛逛吧[^。！？]{0,8} | 客官，这篇文章有意思吗？
    | 支持[ ]iOS[ ]和[ ]Android
    | (?:本文)?(?:转载|转自|来源)(?:请注明|须注明).{0,24}
    | (?:欢迎|敬请)?(?:关注|订阅)(?:我们|本站|微信公众号|公众号|官方微信|官方微博).{0,20}
    | 地址[:：][^。]{4,60}(?:电话|传真|邮编|邮箱|热线)[:：][^。]*
    | (?:转发|轉發)微博[。.]?
    | (?:back\ to\ (?:top|contents?)|next\ page|previous\ page|skip\ to\ (?:main\ )?content)[ ↑]*
    | (?:(?:您|你)?(?:现在)?的?(?:当前)?(?:所在)?位置[:：是]?[ ]*)?
      (?:首页|主页|home)
      (?:[ ]*(?:>+|»|›|→|/|\|)[ ]*[^>»›|/。！？]{1,40}){1,8}
    )[ \t\u3000|]*""",
    re.VERBOSE | re.IGNORECASE,
)
# What most lines do not begin with, so that they need no further look.
_BEGINNINGS = frozenset(
    " \t\u3000>·•↑CcPpHhBbNnSs©(【（责本分转轉收推上下返回点查阅展显请长扫微立马免再客好支来欢敬关订地您你现当所位首主"
)
# In a text without such a line there is none to look for; led by the line end, which the search leaps to.
_ANY_BEGUN = re.compile(rf"\n(?=[{''.join(_BEGINNINGS)}])(?i:{_BEGUN.pattern})(?=\n)", re.VERBOSE)
_HELD = re.compile(
    r"""(?:
      [^。！？，]{0,20}
      (?:版权所有(?![\u4e00-\u9fff])|版权所有[，,]?(?:违者|侵权|翻印|不得)|all\ rights\ reserved|保留所有权利)
      [^。]{0,40}。?
    | [^。！？，]{0,12}[\u4e00-\u9fff]ICP[备证][^。]*
    | [^。！？，]{0,16}©[ ]*(?:19|20)\d\d[^。]*
    | (?=.*(?:首页|登[录陆]|注册|更多|关于|联系|帮助|English|RSS|地图|招聘|新闻|频道|搜索))
      [^|｜。！？，；=+≤]{1,12}(?:[ ]*[|｜][ ]*[^|｜。！？，；=+≤]{1,12}){3,20}
    )[ \t\u3000|]*""",
    re.VERBOSE | re.IGNORECASE,
)
# What such a line has, led by a character of it: looking for one is fast, and seldom is there more to look for.
_HELD_SIGNS = (("|", "|"), ("｜", "｜"), ("©", "©"), ("C", "ICP"), ("版", "版权"))
_HELD_SIGN = re.compile("|".join(re.escape(sign) for _, sign in _HELD_SIGNS))
# Entries that only menus have, and ones that they share with texts: the second count next to the first.
_MENU_WORDS = frozenset(
    [
        "首页",
        "主页",
        "登录",
        "注册",
        "登陆",
        "登录/注册",
        "退出",
        "网站地图",
        "站点地图",
        "联系我们",
        "关于我们",
        "加入我们",
        "友情链接",
        "帮助中心",
        "帮助",
        "设为首页",
        "加入收藏",
        "免责声明",
        "隐私政策",
        "用户协议",
        "服务条款",
        "意见反馈",
        "广告服务",
        "版权声明",
        "法律声明",
        "客户端",
        "手机版",
        "电脑版",
        "简体中文",
        "繁體中文",
        "English",
        "无障碍",
        "返回首页",
        "更多",
        "更多>>",
        "相似文献",
        "相关博文",
        "相关新闻",
        "收藏",
        "分享",
        "搜索",
        "高级检索",
        "会员中心",
        "个人中心",
        "购物车",
        "RSS",
        "导航",
        "招聘信息",
        "诚聘英才",
        "商务合作",
        "home",
        "login",
        "about",
        "contact",
    ]
)
_ENTRY = 12
# Every menu has one of these, led by its rare character.
_MENU_SIGNS = (("页", "首页"), ("录", "登录"), ("链", "友情链接"))


def drop_furniture(text: str) -> str:
    """The text without the lines that belong to its page; a text without any comes back as it is."""
    steps: list[Callable[[list[str]], list[str]]] = []
    if _ANY_BEGUN.search(f"\n{text}\n"):
        steps.append(_without_begun)
    if any(character in text and sign in text for character, sign in _HELD_SIGNS):
        steps.append(_without_held)
    if any(character in text and sign in text for character, sign in _MENU_SIGNS):
        steps.append(_without_menus)
    if not steps:
        return text
    lines = kept = text.split("\n")
    for step in steps:
        kept = step(kept)
    return text if len(kept) == len(lines) else "\n".join(kept)


def _without_begun(lines: list[str]) -> list[str]:
    """The lines that do not begin as one of the page's does."""
    begun = _BEGUN.fullmatch
    return [line for line in lines if len(line) > _LONGEST or line[:1] not in _BEGINNINGS or not begun(line)]


def _without_held(lines: list[str]) -> list[str]:
    """The lines that hold nothing which only the page's do."""
    held = _HELD.fullmatch
    return [line for line in lines if len(line) > _LONGEST or not (_HELD_SIGN.search(line) and held(line))]


def _without_menus(lines: list[str]) -> list[str]:
    """The lines without runs of short ones that hold at least two menu words."""
    kept: list[str] = []
    run: list[str] = []
    for line in [*lines, "。"]:
        entry = line.strip(" \t\u3000|·>")
        if len(entry) <= _ENTRY and not re.search("[。！？，；：]", entry):
            run.append(line)
            continue
        words = [entry for entry in (line.strip(" \t\u3000|·>") for line in run) if entry]
        if len(words) < _RUN or sum(word in _MENU_WORDS for word in words) < max(2, 0.3 * len(words)):
            kept += run
        run = []
        kept.append(line)
    return kept[:-1]
