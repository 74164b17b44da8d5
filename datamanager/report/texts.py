"""The words of reports, in English and Chinese."""

from __future__ import annotations

LANGUAGES = ("en", "zh")

_ROWS: dict[str, tuple[str, str]] = {
    "title": ("LLM usage and cost", "LLM 用量与费用"),
    "from": ("From", "从"),
    "to": ("To", "至"),
    "zone": ("Time zone", "时区"),
    "local": ("this machine's", "本机时区"),
    "made": ("Made", "生成于"),
    "by": ("by datamanager", "由 datamanager 生成"),
    "summary": ("Summary", "概要"),
    "cost": ("Cost", "费用"),
    "requests": ("Requests", "请求"),
    "input": ("Input tokens", "输入 token"),
    "output": ("Output tokens", "输出 token"),
    "hits": ("Cache hits", "缓存命中"),
    "hit_share": ("Cache hit share", "缓存命中率"),
    "uptime": ("Uptime of models", "模型运行时间"),
    "models": ("Models", "模型"),
    "model": ("Model", "模型"),
    "cost_over_time": ("Cost over time", "费用走势"),
    "tokens_over_time": ("Tokens over time", "token 走势"),
    "tokens": ("Tokens", "token"),
    "share": ("Share by model", "各模型占比"),
    "hit_share_over_time": ("Cache hit share over time", "缓存命中率走势"),
    "strips": ("When they ran", "运行时段"),
    "program": ("(the program)", "（程序）"),
    "heat": ("Tokens by weekday and hour", "按星期和小时的 token"),
    "first": ("First request", "首次请求"),
    "last": ("Last request", "末次请求"),
    "invoice": ("Invoice", "账单"),
    "item": ("Item", "项目"),
    "tier": ("tier", "阶梯"),
    "hours": ("hours", "小时"),
    "in_short": ("in", "输入"),
    "hit_short": ("hits", "命中"),
    "out_short": ("out", "输出"),
    "since": ("since", "自"),
    "prices_changed": ("prices changed within", "期间价格有变动"),
    "amount": ("Amount", "金额"),
    "total": ("Total", "合计"),
    "prices": ("Prices applied", "所用价格"),
    "per_million": ("Tier prices are per million tokens.", "阶梯价格以每百万 token 计。"),
    "holds_since": ("Since", "生效时间"),
    "ever": ("ever", "一直"),
    "billed_by": ("Billed by", "计费方式"),
    "tiers": ("tiers", "阶梯"),
    "hourly": ("the hour", "小时"),
    "hourly_price": ("Per hour", "每小时"),
    "strategy": ("Strategy", "策略"),
    "graduated": ("graduated", "逐级"),
    "volume": ("volume", "按量"),
    "cumulative": ("cumulative", "累计"),
    "above": ("Above", "大于"),
    "up_to": ("Up to", "至"),
    "input_price": ("Input", "输入"),
    "output_price": ("Output", "输出"),
    "hit_price": ("Cache hit", "缓存命中"),
    "nothing": ("Nothing in this window.", "此时间范围内没有数据。"),
    "others": ("others", "其他"),
    "sort": ("Click a heading to sort.", "点击表头排序。"),
    "no_script": ("Plots need JavaScript; the tables do not.", "图表需要 JavaScript，表格不需要。"),
    "weekdays": ("Mon Tue Wed Thu Fri Sat Sun", "周一 周二 周三 周四 周五 周六 周日"),
}


def texts(language: str) -> dict[str, str]:
    """Every text, by its key."""
    at = LANGUAGES.index(language)
    return {key: row[at] for key, row in _ROWS.items()}
