// Options of the engine as a Python class: each is told once, with its name, its place and what it does. The class has
// them as keywords of its constructor and as attributes.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace trimode {

namespace nb = nanobind;

// A type of values: what Python's type checkers call it, and people.
struct ValueType {
    const char * annotation;
    const char * words;
};

inline ValueType value_type(const bool *) { return {"bool", "True or False"}; }
inline ValueType value_type(const int32_t *) { return {"int", "a whole number of 32 bits"}; }
inline ValueType value_type(const uint64_t *) { return {"int", "a whole number of 64 bits, not negative"}; }
inline ValueType value_type(const float *) { return {"float", "a number"}; }
inline ValueType value_type(const double *) { return {"float", "a number"}; }
inline ValueType value_type(const std::string *) { return {"str", "text"}; }
inline ValueType value_type(const std::vector<int32_t> *) { return {"collections.abc.Sequence[int]", "token ids"}; }
inline ValueType value_type(const std::vector<double> *) {
    return {"collections.abc.Sequence[float]", "a list of numbers"};
}
inline ValueType value_type(const std::vector<float> *) {
    return {"collections.abc.Sequence[float]", "a list of numbers"};
}
inline ValueType value_type(const std::vector<std::string> *) {
    return {"collections.abc.Sequence[str]", "a list of texts"};
}
inline ValueType value_type(const std::unordered_map<int32_t, float> *) {
    return {"collections.abc.Mapping[int, float]", "token ids with numbers"};
}

// A default as Python writes it.
template <typename T>
std::string literal(const T & value) {
    if constexpr (std::is_same_v<T, float>) {  // 0.95, not the double that is nearest to it
        char text[32];
        int digits = 1;
        do {
            std::snprintf(text, sizeof text, "%.*g", digits++, static_cast<double>(value));
        } while (std::strtof(text, nullptr) != value);
        return std::strpbrk(text, ".e") ? text : std::string(text) + ".0";
    } else {
        return nb::repr(nb::cast(value)).c_str();
    }
}

template <typename Options>
class OptionFields {
  public:
    // `name`: of the class, in errors.
    OptionFields(nb::module_ & m, const char * name, const char * doc) : name_(name), class_(m, name, doc) {}

    // `at(options)` is the field.
    template <typename At>
    OptionFields & add(const char * name, const char * doc, At at) {
        using T = std::decay_t<decltype(at(std::declval<Options &>()))>;
        return add<T>(
            name, doc, [at](const Options & o) -> T { return at(o); },
            [at](Options & o, T value) { at(o) = std::move(value); });
    }

    // A field that Python has as another type.
    template <typename T, typename Get, typename Set>
    OptionFields & add(const char * name, const char * doc, Get get, Set set) {
        const ValueType type = value_type(static_cast<const T *>(nullptr));
        const auto assign = [owner = name_, name, type, set](Options & options, nb::handle value) {
            T converted;
            if (!nb::try_cast<T>(value, converted)) {
                throw nb::type_error(
                    (owner + "." + name + ": expected " + type.words + ", got " + shown(value)).c_str());
            }
            set(options, std::move(converted));
        };
        const std::string type_text = type.annotation;
        const std::string getter = std::string("def ") + name + "(self, /) -> " + type_text;
        const std::string setter = std::string("def ") + name + "(self, value: " + type_text + ", /) -> None";
        class_.def_prop_rw(
            name, [get](const Options & options) { return get(options); }, assign,
            nb::for_getter(nb::sig(getter.c_str())), nb::for_setter(nb::sig(setter.c_str())),
            nb::for_setter(nb::arg("value").none()), doc);
        signature_ += std::string(", ") + name + ": " + type_text + " = " + literal<T>(get(Options()));
        fields_.emplace_back(name, assign);
        return *this;
    }

    // Once all are there: the constructor, and replace(), which copies with changes.
    void finish() {
        const std::string init = "def __init__(self" + (signature_.empty() ? "" : ", *" + signature_) + ") -> None";
        class_.def(
            "__init__",
            [fields = fields_, name = name_](Options * self, const nb::kwargs & given) {
                Options options;
                assign_all(options, fields, name, given);
                new (self) Options(std::move(options));
            },
            nb::sig(init.c_str()));
        const std::string replace = "def replace(self, **changes: object) -> " + name_;
        class_.def(
            "replace",
            [fields = fields_, name = name_](const Options & self, const nb::kwargs & given) {
                Options options = self;
                assign_all(options, fields, name, given);
                return options;
            },
            nb::sig(replace.c_str()),
            "Return a copy with other values of some options. Raises as the constructor does.");
    }

  private:
    using Assign = std::function<void(Options &, nb::handle)>;
    using Fields = std::vector<std::pair<std::string, Assign>>;

    static std::string shown(nb::handle value) {
        constexpr size_t MOST = 60;
        std::string text = nb::repr(value).c_str();
        if (text.size() > MOST) {
            text = text.substr(0, MOST - 3) + "...";
        }
        return text + " (" + nb::inst_name(value).c_str() + ")";
    }

    static void assign_all(Options & options, const Fields & fields, const std::string & name,
                           const nb::kwargs & given) {
        for (const auto & [key, value] : given) {
            const std::string wanted = nb::cast<std::string>(key);
            const auto known = [&](const auto & field) { return field.first == wanted; };
            const auto field = std::find_if(fields.begin(), fields.end(), known);
            if (field == fields.end()) {
                throw nb::type_error((name + " has no option '" + wanted + "'").c_str());
            }
            field->second(options, value);
        }
    }

    std::string name_;
    nb::class_<Options> class_;
    std::string signature_;
    Fields fields_;
};

}  // namespace trimode
