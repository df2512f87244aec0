// Field values of one plugin, checked against the table that generate.py makes of its YAML.
#pragma once

#include <cmath>
#include <cstdio>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace trt_lane {

enum class FieldKind { kInt, kFloat, kText };

// One field: what may be given for it.
struct FieldSpec {
    char const* name;
    FieldKind kind;
    int least, most;          // how many numbers
    double minimum, maximum;  // of each number
    char const* fallback;     // numbers or text that stand where none are given; nullptr: required
    char const* choices;      // of a text, between blanks; "" for numbers
    char const* sizes_of;     // "head axis ...": the sizes that stand where none are given; or ""
    char const* help;
};

// One plugin as its YAML describes it.
struct PluginSpec {
    char const* name;
    char const* version;
    char const* help;
    char const* const* heads;
    int head_count;
    FieldSpec const* fields;
    int field_count;
};

// A value that a user gave and that the plugin does not take; what() says what it expected.
struct FieldError : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

inline std::string number_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    double shorter;
    char brief[32];
    std::snprintf(brief, sizeof brief, "%.10g", value);
    return std::sscanf(brief, "%lf", &shorter) == 1 && shorter == value ? brief : text;
}

class Fields {
public:
    struct Value {
        std::vector<double> numbers;
        std::string text;
        bool given = false;
    };

    explicit Fields(PluginSpec const& spec) : spec_(&spec), values_(spec.field_count) {}

    PluginSpec const& spec() const { return *spec_; }
    Value const& value(int index) const { return values_[index]; }

    // Index in the spec, or -1.
    int find(std::string const& name) const {
        for (int i = 0; i < spec_->field_count; ++i) {
            if (name == spec_->fields[i].name) return i;
        }
        return -1;
    }

    // Index in the spec.
    int known(std::string const& name) const {
        int const index = find(name);
        if (index >= 0) return index;
        std::string names;
        for (int i = 0; i < spec_->field_count; ++i) {
            names += (i ? ", " : "") + std::string(spec_->fields[i].name);
        }
        refuse("no field '" + name + "'; fields: " + names);
    }

    void set(std::string const& name, std::vector<double> numbers) {
        int const index = known(name);
        FieldSpec const& field = spec_->fields[index];
        if (field.kind == FieldKind::kText) fail(field, "a number", std::string("text"));
        check(field, numbers);
        values_[index] = {std::move(numbers), "", true};
    }

    // Text for a text field; for numbers, their decimal digits between blanks. ONNX attributes hold
    // float32 only, and digits keep the double.
    void set_text(std::string const& name, std::string const& text) {
        int const index = known(name);
        FieldSpec const& field = spec_->fields[index];
        if (field.kind != FieldKind::kText) return set(name, parse(field, text));
        if (!chosen(field.choices, text)) fail(field, "'" + text + "'", expected(field));
        values_[index] = {{}, text, true};
    }

    // Fills what was not given; the values are complete after it.
    void finish() {
        for (int i = 0; i < spec_->field_count; ++i) {
            FieldSpec const& field = spec_->fields[i];
            if (values_[i].given) continue;
            if (!field.fallback) fail(field, "missing", expected(field));
            set_text(field.name, field.fallback);
        }
    }

    std::vector<double> const& numbers(char const* name) const {
        return values_[known(name)].numbers;
    }
    double number(char const* name) const { return numbers(name).at(0); }
    int integer(char const* name) const { return static_cast<int>(number(name)); }
    std::string const& text(char const* name) const { return values_[known(name)].text; }

    // What a field takes, for messages and help.
    static std::string expected(FieldSpec const& field) {
        if (field.kind == FieldKind::kText) return std::string("one of ") + field.choices;
        std::string text;
        if (field.most > 1) {
            text = std::to_string(field.least);
            if (field.most != field.least) text += " to " + std::to_string(field.most);
            text += " ";
        }
        bool const many = field.most > 1;
        text += field.kind == FieldKind::kInt ? (many ? "whole numbers" : "a whole number")
                                              : (many ? "numbers" : "a number");
        return text + " from " + number_text(field.minimum) + " to " + number_text(field.maximum);
    }

    // For what only several fields together can say.
    [[noreturn]] void refuse(std::string const& what) const {
        throw FieldError(std::string(spec_->name) + ": " + what);
    }

private:
    [[noreturn]] void fail(FieldSpec const& field, std::string const& found,
                           std::string const& wanted) const {
        refuse(std::string(field.name) + " is " + found + "; expected " + wanted + " (" +
               field.help + ")");
    }

    void check(FieldSpec const& field, std::vector<double> const& numbers) const {
        int const count = static_cast<int>(numbers.size());
        if (count < field.least || count > field.most) {
            fail(field, std::to_string(count) + " numbers", expected(field));
        }
        for (double value : numbers) {
            bool const inside = value >= field.minimum && value <= field.maximum;  // false for NaN
            bool const whole = field.kind != FieldKind::kInt || value == std::floor(value);
            if (!inside || !whole) fail(field, number_text(value), expected(field));
        }
    }

    std::vector<double> parse(FieldSpec const& field, std::string const& text) const {
        // Not strtod: where a program speaks German, it would stop at the point of 0.5.
        std::vector<double> numbers;
        std::istringstream words(text);
        words.imbue(std::locale::classic());
        for (std::string word; words >> word;) {
            std::istringstream digits(word);
            digits.imbue(std::locale::classic());
            double value = 0.0;
            if (!(digits >> value) || digits.peek() != std::char_traits<char>::eof()) {
                fail(field, "'" + text + "'", expected(field));
            }
            numbers.push_back(value);
        }
        return numbers;
    }

    static bool chosen(std::string const& choices, std::string const& text) {
        std::string const between = " " + choices + " ";
        return !text.empty() && text.find(' ') == std::string::npos &&
               between.find(" " + text + " ") != std::string::npos;
    }

    PluginSpec const* spec_;
    std::vector<Value> values_;
};

}  // namespace trt_lane
